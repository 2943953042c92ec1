package audit_test

import (
	"bytes"
	"log/slog"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parley-im/parley/internal/audit"
)

func newLog() (*audit.Log, *bytes.Buffer) {
	var b bytes.Buffer
	return audit.New(slog.New(slog.NewTextHandler(&b, nil))), &b
}

// TestFloodIsSampled (S28): everything is counted, a flood is shown as a few lines
// that say how many there were, and an operator's deeds are shown all the same.
func TestFloodIsSampled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, b := newLog()
		const flood = 10_000
		var flooding sync.WaitGroup
		for i := range 4 {
			flooding.Go(func() {
				for j := range flood / 4 {
					l.Record(t.Context(), &audit.Event{Kind: audit.Failure, Address: netip.AddrFrom4([4]byte{10, byte(i), byte(j / 8), byte(j)}), What: "token"})
				}
			})
		}
		flooding.Wait()
		for range 50 {
			l.Record(t.Context(), &audit.Event{Kind: audit.Admin, User: "root", What: "DELETE /v1/topics/a"})
		}
		if n := strings.Count(b.String(), "kind=failure"); n == 0 || n > 110 {
			t.Errorf("%d lines of a flood, want some and at most about 100", n)
		}
		if n := strings.Count(b.String(), "kind=admin"); n != 50 {
			t.Errorf("%d lines of an operator, want 50", n)
		}
		shown := strings.Count(b.String(), "kind=failure")
		time.Sleep(time.Minute)
		l.Record(t.Context(), &audit.Event{Kind: audit.Failure, Address: netip.MustParseAddr("192.0.2.1"), What: "token"})
		said := 0
		for _, m := range regexp.MustCompile(`suppressed=(\d+)`).FindAllStringSubmatch(b.String(), -1) {
			n, _ := strconv.Atoi(m[1])
			said += n
		}
		if said != flood-shown {
			t.Errorf("%d are said not to be shown, want %d", said, flood-shown)
		}
		counted, hidden := l.Counts()
		if counted["failure"] != flood+1 || counted["admin"] != 50 || hidden["failure"] != int64(flood-shown) {
			t.Errorf("counted %v, hidden %v", counted, hidden)
		}
	})
}

// TestOneAddressIsSampledByItself: who is noisy hides only themselves.
func TestOneAddressIsSampledByItself(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, b := newLog()
		for range 1000 {
			l.Record(t.Context(), &audit.Event{Kind: audit.Denial, Address: netip.MustParseAddr("192.0.2.1"), What: "noise"})
		}
		l.Record(t.Context(), &audit.Event{Kind: audit.Denial, Address: netip.MustParseAddr("192.0.2.2"), What: "signal"})
		if strings.Count(b.String(), "noise") > 5 || !strings.Contains(b.String(), "signal") {
			t.Errorf("the log is\n%s", b)
		}
	})
}

// TestTextsAreHarmless (S16): what strangers say is one short line.
func TestTextsAreHarmless(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"a\r\nkind=admin", "a\u2028b", "\x1b[2J", "\u202etxet", "\xff\xfe", strings.Repeat("x", 1<<16), "a\x00b"} {
		l, b := newLog()
		l.Record(t.Context(), &audit.Event{Kind: audit.Denial, User: text, What: text, Protocol: text})
		line := strings.TrimSuffix(b.String(), "\n")
		if strings.ContainsAny(line, "\r\n\x00\x1b\u2028\u202e") || len(line) > 1200 {
			t.Errorf("%.20q is shown as %.300q", text, line)
		}
	}
}
