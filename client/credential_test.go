package client_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/client"
)

// tokens are tokens with numbers.
func tokens() func(context.Context) (string, error) {
	n := 0
	return func(context.Context) (string, error) {
		n++
		return fmt.Sprint("token ", n), nil
	}
}

// A token is shown on every connection, and a new one before it expires, on the
// live connection.
func TestTokenIsRefreshed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPeer(t)
		p.life = time.Minute
		c, err := client.DialWith(t.Context(), "http://peer", client.Options{Token: tokens(), Device: "phone"}, p.dial)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		me, err := c.WhoAmI(t.Context())
		if err != nil || me.User != "ann" || me.Device != "phone" || time.Until(me.Expires) > time.Minute || me.Expires.IsZero() {
			t.Errorf("WhoAmI = %+v, %v", me, err)
		}
		<-time.After(50 * time.Second) // virtual
		p.set(func() {
			if want := []string{"token 1", "token 2"}; !slices.Equal(p.tokens, want) || len(p.dials) != 1 {
				t.Errorf("shown %q over %d connections, want %q", p.tokens, len(p.dials), want)
			}
		})
		p.cut()
		<-time.After(time.Second) // virtual
		p.set(func() {
			if len(p.tokens) != 3 || len(p.dials) != 2 {
				t.Errorf("shown %q over %d connections", p.tokens, len(p.dials))
			}
		})
	})
}

// A token that cannot be refreshed is tried again, and the connection stays until
// the server ends it.
func TestTokenSourceFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPeer(t)
		p.life = time.Minute
		calls := 0
		source := func(context.Context) (string, error) {
			if calls++; calls > 1 && calls < 4 {
				return "", errors.New("no token today")
			}
			return fmt.Sprint(calls), nil
		}
		c, err := client.DialWith(t.Context(), "http://peer", client.Options{Token: source}, p.dial)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		<-time.After(time.Minute - time.Millisecond) // virtual
		p.set(func() {
			if !slices.Equal(p.tokens, []string{"1", "4"}) || len(p.dials) != 1 {
				t.Errorf("shown %q over %d connections", p.tokens, len(p.dials))
			}
		})
	})
}

// What the server does not accept ends what waits, rather than being shown for
// ever in silence.
func TestRefusedCredential(t *testing.T) {
	p := newPeer(t)
	c, err := client.DialWith(t.Context(), "http://peer", client.Options{Token: tokens(), Backoff: quick()}, p.dial)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	p.set(func() {
		p.refuse = func(method string) map[string]any {
			if method == "auth" {
				return wireError(-32001, "unauthenticated", "the credential is not accepted")
			}
			return nil
		}
		p.deaf = func(method string) bool { return method == "publish" }
	})
	p.cut()
	if _, err := c.Publish(t.Context(), parley.Message{Topic: "/a"}); !errors.Is(err, parley.ErrUnauthenticated) {
		t.Errorf("Publish = %v", err)
	}
	for _, err := range c.Subscribe(t.Context(), "/a") {
		if !errors.Is(err, parley.ErrUnauthenticated) {
			t.Errorf("Subscribe = %v", err)
		}
	}
	if _, err := client.DialWith(t.Context(), "http://peer", client.Options{Token: tokens()}, p.dial); !errors.Is(err, parley.ErrUnauthenticated) {
		t.Errorf("Dial = %v", err)
	}
	p.set(func() { p.refuse, p.deaf = nil, nil })
	if _, err := c.Publish(t.Context(), parley.Message{Topic: "/a"}); err != nil {
		t.Errorf("when it is accepted again, Publish = %v", err)
	}
}

// A client whose device another one has taken over does not come back.
func TestReplacedByGoodbye(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPeer(t)
		c, err := client.DialWith(t.Context(), "http://peer", client.Options{User: "ann", Device: "phone", Backoff: quick()}, p.dial)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		p.say("bye", map[string]any{"code": "replaced", "reason": "another session"})
		synctest.Wait() // it was told
		p.cut()
		for _, err := range c.Subscribe(t.Context(), "/a") {
			if !errors.Is(err, parley.ErrConflict) {
				t.Errorf("Subscribe = %v", err)
			}
		}
		if _, err := c.Publish(t.Context(), parley.Message{Topic: "/a"}); !errors.Is(err, parley.ErrConflict) {
			t.Errorf("Publish = %v", err)
		}
		p.set(func() {
			if len(p.dials) != 1 {
				t.Errorf("%d connections", len(p.dials))
			}
		})
	})
}

func TestCredentialsOfOptions(t *testing.T) {
	p := newPeer(t)
	for name, o := range map[string]client.Options{
		"two":    {APIKey: "k", User: "ann"},
		"user":   {User: "a/b"},
		"device": {User: "ann", Device: "a b"},
	} {
		if _, err := client.DialWith(t.Context(), "http://peer", o, p.dial); !errors.Is(err, parley.ErrInvalid) {
			t.Errorf("%s: Dial = %v", name, err)
		}
	}
	empty := func(context.Context) (string, error) { return "", nil }
	if _, err := client.DialWith(t.Context(), "http://peer", client.Options{Token: empty}, p.dial); !errors.Is(err, parley.ErrUnauthenticated) {
		t.Errorf("no token: Dial = %v", err)
	}
	certified := client.Options{TLS: &tls.Config{Certificates: []tls.Certificate{{}}}}
	c, err := client.DialWith(t.Context(), "http://peer", certified, p.dial)
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	p.set(func() {
		if len(p.tokens) != 1 {
			t.Errorf("a certificate is not shown")
		}
	})
}
