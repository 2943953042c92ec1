package console

import (
	"slices"
	"strings"
	"testing"
)

// TestLedger sends, with "->", and receives, with "<-", and then compares what
// is still waited for, by kind and path.
func TestLedger(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		talk string
		want string
	}{
		"a publish":               {"-> > /a|h|b;<- #send", ""},
		"one of two publishes":    {"-> > /a;-> > /a x;<- #send x", ">"},
		"a failed publish":        {"-> > /a//b;<- !error-send /a//b why", ""},
		"a subscription":          {"-> + /a 0;<- #fetch-start /a 1;<- #fetch-end /a", "+/a"},
		"a subscription done":     {"-> + /a 0;<- #fetch-end /a;<- #subscribed-to /a", ""},
		"another's subscription":  {"-> + /a;<- #subscribed-to /b", "+/a"},
		"a fetch":                 {"-> + /a 0 5;<- #subscribed-to /a", "+/a"},
		"a fetch done":            {"-> + /a -5 5;<- #fetch-end /a", ""},
		"a documented fetch":      {"-> + /a 0,5;<- #fetch-done /a", ""},
		"cancel nothing":          {"-> - /a", ""},
		"cancel":                  {"-> + /a;<- #subscribed-to /a;-> - /a", "-/a"},
		"canceled":                {"-> + /a;<- #subscribed-to /a;-> - /a;<- #canceled /a", ""},
		"canceled while fetching": {"-> + /b;-> + /a 0;-> - /a;<- #canceled /a", "+/b"},
		"refused, then cancel":    {"-> + /a;-> - /a;<- !error-subscribed-to /a no", ""},
		"an early error":          {"-> > /a;-> nonsense;<- !error-bad-request unknown", ">"},
		"a bad number":            {"-> > /a;-> + /a x;<- !error-bad-request startid", ">"},
		"a bad path":              {"-> + /a;-> + /a//b;<- !error-bad-request topic", "+/a"},
		"a bad maximum":           {"-> + /a;-> + /a 0 x;<- !error-bad-request topic", "+/a"},
		"a failing store":         {"-> > /a;-> + /b 0;<- !error-server-internal internal error", ">"},
		"an empty command":        {"-> > ;<- !error-bad-request send", ""},
		"something new":           {"-> > /a;<- #gap /a|{}", ">"},
		"a message":               {"-> > /a;<- /a,5,u,x,,,1,0", ">"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var l ledger
			for line := range strings.SplitSeq(test.talk, ";") {
				text := strings.ReplaceAll(line[3:], "|", "\n")
				if line[:2] == "->" {
					l.sent(text)
				} else {
					l.received(text)
				}
			}
			var waiting []string
			for _, c := range l.pending {
				waiting = append(waiting, string(c.name)+c.path)
			}
			if got := strings.Join(waiting, " "); got != test.want {
				t.Errorf("after %q it waits for %q, want %q", test.talk, got, test.want)
			}
		})
	}
}

// TestRestore says where subscriptions go on after the connection broke.
func TestRestore(t *testing.T) {
	t.Parallel()
	var l ledger
	l.begin()
	for _, text := range []string{"+ /old 0\n", "+ /new", "+ /gone", "- /gone", "+ /bad", "+ /once 0 10", "> /old\n\nx"} {
		l.sent(text)
	}
	for _, frame := range []string{
		"#connected You are", "!error-subscribed-to /bad", "/old,7,u,a,,,1,0", "/old/below,9,u,a,,,1,0", "/older,20,u,a,,,1,0", "/old,8,u,a,,,1,0",
	} {
		l.received(frame)
	}
	if lost := l.broke(); lost != 2 {
		t.Errorf("%d commands are lost, want the fetch and the publish", lost)
	}
	want := []string{"+ /old 10", "+ /new"}
	if got := l.begin(); !slices.Equal(got, want) {
		t.Errorf("it restores %q, want %q", got, want)
	}
	if len(l.pending) != 3 {
		t.Errorf("it waits for %v, want the greeting and both subscriptions", l.pending)
	}
}

// TestRender covers both dialects.
func TestRender(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ frame, want, verbose string }{
		{"#fetch-end /a", "#fetch-end /a\n\n", "#fetch-end /a\n\n"},
		{"#connected Hi.\n{}", "#connected Hi.\n{}\n\n", "#connected Hi.\n{}\n\n"},
		{"!error-bad-request no", "ERROR: !error-bad-request no\n", "ERROR: !error-bad-request no\n"},
		{"/a,1,ann,app,,,17,0\n\nhi\nthere", "ann: hi\nthere\n", "/a,1,ann,app,,,17,0\n\nhi\nthere\n"},
		{"/a,1,,app,,,17,0\n{\"h\":1}\nhi", ": hi\n", "/a,1,,app,,,17,0\n{\"h\":1}\nhi\n"},
		{"/a,1,ann,app,k=v,l=w,,17,0\n\nhi", "ann: hi\n", "/a,1,ann,app,k=v,l=w,,17,0\n\nhi\n"},
		{"/a,1,ann,app,,,17,0\n{\"h\":1}", "ann: \n", "/a,1,ann,app,,,17,0\n{\"h\":1}\n"},
		{"/a,1,ann,app,,,17,0", "ann: \n", "/a,1,ann,app,,,17,0\n"},
		{"/a,1,ann,app,42,17\nA: 1\nB: 2\n\nhi", "ann: hi\n", "/a,1,ann,app,42,17\nA: 1\nB: 2\n\nhi\n"},
		{"/a,1,ann,app,42,17\n\nhi\n\nthere", "ann: hi\n\nthere\n", "/a,1,ann,app,42,17\n\nhi\n\nthere\n"},
		{"what is this", "what is this\n", "what is this\n"},
		{"", "\n", "\n"},
	} {
		brief, verbose := Options{}, Options{Verbose: true}
		if got := string(brief.render(nil, []byte(test.frame))); got != test.want {
			t.Errorf("%q prints as %q, want %q", test.frame, got, test.want)
		}
		if got := string(verbose.render(nil, []byte(test.frame))); got != test.verbose {
			t.Errorf("%q prints verbosely as %q, want %q", test.frame, got, test.verbose)
		}
	}
}
