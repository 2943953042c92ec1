package account_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/account"
)

func grants(tb testing.TB, texts ...string) []account.Grant {
	tb.Helper()
	var all []account.Grant
	for _, s := range texts {
		g, err := account.ParseGrant(s)
		if err != nil {
			tb.Fatal(err)
		}
		all = append(all, g)
	}
	return all
}

// TestMatrix asks for every operation on every kind of topic in every role: what
// is not listed here is refused (S2).
func TestMatrix(t *testing.T) {
	topics := []parley.Topic{
		"/", "/free", "/orders", "/orders/eu", "/orders/eu/42", "/ordersX", "/orders/us", "/a", "/a/x", "/a/x/c", "/a/x/c/d", "/a/x/y",
		"/u", "/u/ann", "/u/ann/1", "/u/bob", "/u/{user}",
		"/$presence/ann", "/$inbox", "/$dead/ann", "/$inbox/ann", "/$inbox/ann/bob", "/$inbox/bob", "/$inbox/bob/ann", "/$inbox/annX", "/$inbox/{user}",
	}
	operations := map[string]account.Operation{
		"publish": account.Publish, "subscribe": account.Subscribe, "history": account.History,
		"presence": account.Presence, "send": account.Send, "admin": account.Admin,
	}
	const (
		plain   = "/ /free /orders /orders/eu /orders/eu/42 /ordersX /orders/us /a /a/x /a/x/c /a/x/c/d /a/x/y /u /u/ann /u/ann/1 /u/bob /u/{user}"
		inboxes = "/$inbox/ann /$inbox/ann/bob /$inbox/bob /$inbox/bob/ann /$inbox/annX /$inbox/{user}"
		own     = "/$inbox/ann /$inbox/ann/bob"
	)
	ann := parley.Identity{User: "ann", Device: "phone"}
	for _, role := range []struct {
		name string
		who  *account.Principal
		may  map[string]string // by operation; others are refused with no
		no   error
	}{
		{"nobody", account.Nobody(), nil, parley.ErrUnauthenticated},
		{"nobody with a device", &account.Principal{Identity: parley.Identity{Device: "phone"}}, nil, parley.ErrUnauthenticated},
		{"open", account.Anyone(parley.Identity{}), map[string]string{"publish": plain, "subscribe": plain, "history": plain, "presence": plain, "send": plain, "admin": plain + " /$presence/ann /$inbox /$dead/ann"}, parley.ErrForbidden},
		{"open, named", account.Anyone(ann), map[string]string{
			"publish": plain, "presence": plain, "send": plain + " " + inboxes, "subscribe": plain + " " + own, "history": plain + " " + own,
			"admin": plain + " /$presence/ann /$inbox /$dead/ann",
		}, parley.ErrForbidden},
		{"user without grants", &account.Principal{Identity: ann}, map[string]string{"subscribe": own, "history": own}, parley.ErrForbidden},
		{"user with grants", &account.Principal{Identity: ann, Grants: grants(t, "publish,subscribe:/orders/eu", "history:/a/*/c", "presence:/u/{user}", "send:/$inbox/*")}, map[string]string{
			"publish": "/orders/eu /orders/eu/42", "subscribe": "/orders/eu /orders/eu/42 " + own, "history": "/a/x/c /a/x/c/d " + own,
			"presence": "/u/ann /u/ann/1", "send": inboxes,
		}, parley.ErrForbidden},
		{"user who may write to one", &account.Principal{Identity: ann, Grants: grants(t, "send:/$inbox/bob")}, map[string]string{"subscribe": own, "history": own, "send": "/$inbox/bob /$inbox/bob/ann"}, parley.ErrForbidden},
		{"user with all", &account.Principal{Identity: ann, Grants: grants(t, "all:/*")}, map[string]string{
			"publish": plain, "subscribe": plain + " " + own, "history": plain + " " + own, "presence": plain, "send": plain + " " + inboxes,
		}, parley.ErrForbidden},
		{"user with the root", &account.Principal{Identity: ann, Grants: grants(t, "all:/")}, map[string]string{
			"publish": "/", "subscribe": "/ " + own, "history": "/ " + own, "presence": "/", "send": "/",
		}, parley.ErrForbidden},
		{"key", &account.Principal{Grants: grants(t, "all:/orders", "all:/u/{user}", "all:/$inbox/*")}, map[string]string{
			"publish": "/orders /orders/eu /orders/eu/42 /orders/us", "subscribe": "/orders /orders/eu /orders/eu/42 /orders/us",
			"history": "/orders /orders/eu /orders/eu/42 /orders/us", "presence": "/orders /orders/eu /orders/eu/42 /orders/us", "send": "/orders /orders/eu /orders/eu/42 /orders/us",
		}, parley.ErrForbidden},
		{"admin", &account.Principal{Identity: parley.Identity{User: "root"}, Grants: grants(t, "admin:/*")}, map[string]string{
			"admin": plain + " /$presence/ann /$inbox /$dead/ann " + inboxes,
		}, parley.ErrForbidden},
	} {
		for name, o := range operations {
			may := strings.Fields(role.may[name])
			for _, topic := range topics {
				err := role.who.Allow(o, topic)
				switch {
				case slices.Contains(may, string(topic)) && err != nil:
					t.Errorf("%s: %s %s is refused: %v", role.name, name, topic, err)
				case !slices.Contains(may, string(topic)) && !errors.Is(err, role.no):
					t.Errorf("%s: %s %s says %v, want %v", role.name, name, topic, err, role.no)
				}
			}
		}
	}
}

// S12: a refusal is the same whoever is asked for.
func TestRefusalsTellNothing(t *testing.T) {
	ann := &account.Principal{Identity: parley.Identity{User: "ann"}}
	for _, o := range []account.Operation{account.Publish, account.Subscribe, account.History, account.Presence, account.Send, account.Admin} {
		if a, b := ann.Allow(o, "/$inbox/bob"), ann.Allow(o, "/$inbox/unheard-of/ann"); a == nil || !errors.Is(b, a) {
			t.Errorf("%v: %v and %v", o, a, b)
		}
	}
}

// covers is what a pattern means, in the plainest words.
func covers(pattern, topic, user string) bool {
	if pattern == "/*" && topic == "/" {
		return true
	}
	p, t := strings.Split(pattern, "/")[1:], strings.Split(topic, "/")[1:]
	if pattern == "/" || topic == "/" {
		return pattern == topic
	}
	if len(p) > len(t) {
		return false
	}
	for i, want := range p {
		switch want {
		case "*":
		case "{user}":
			if user == "" || t[i] != user {
				return false
			}
		default:
			if t[i] != want {
				return false
			}
		}
	}
	return true
}

// FuzzGrant reads grants, writes them again, and asks what they cover. Nobody
// gets what the pattern does not say, nor reserved topics by any pattern.
func FuzzGrant(f *testing.F) {
	for _, s := range []string{"publish:/a", "all:/*", "all,admin:/u/{user}/x", "send:/$inbox/*", "history:/", "publish:/a*", "x:/a", "all:/{a}", "subscribe:/*/*/c", ":", "all:/{user}{user}"} {
		for _, topic := range []string{"/", "/a", "/a/b/c", "/u/ann/x", "/$inbox/ann"} {
			f.Add(s, topic, "ann")
		}
	}
	f.Fuzz(func(t *testing.T, s, topic, user string) {
		g, err := account.ParseGrant(s)
		if err != nil {
			if !errors.Is(err, parley.ErrInvalid) {
				t.Fatal(err)
			}
			return
		}
		if again, err := account.ParseGrant(g.String()); err != nil || again != g {
			t.Fatalf("%q is %q, which is %v, %v", s, g, again, err)
		}
		to, err := parley.ParseTopic(topic)
		if err != nil {
			return
		}
		if user != "" {
			if user, err = parley.ParseUser(user); err != nil {
				return
			}
		}
		p := &account.Principal{Identity: parley.Identity{User: user}, Grants: []account.Grant{g}}
		want := g.Operations&account.Publish != 0 && covers(g.Pattern, topic, user) && !to.Reserved()
		if err := p.Allow(account.Publish, to); (err == nil) != want {
			t.Fatalf("%s for %q on %s: %v", g, user, to, err)
		}
	})
}

// S18: the worst pattern costs no more than the longest topic has segments.
func TestCoverIsLinear(t *testing.T) {
	p := &account.Principal{Identity: parley.Identity{User: "ann"}, Grants: grants(t, "publish:"+strings.Repeat("/*", parley.MaxTopicSegments-1)+"/x")}
	topic := parley.Topic(strings.Repeat("/a", parley.MaxTopicSegments))
	r := testing.Benchmark(func(b *testing.B) {
		for b.Loop() {
			_ = p.Allow(account.Publish, topic)
		}
	})
	if each := time.Duration(r.NsPerOp()); each > 50*time.Microsecond || r.AllocsPerOp() > 0 {
		t.Errorf("%v, %d allocations", each, r.AllocsPerOp())
	}
}
