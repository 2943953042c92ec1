package server_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/client"
	"github.com/parley-im/parley/server/servertest"
)

// TestLag: how far a durable subscription is behind can be seen while nobody uses
// it, and inboxes are not shown.
func TestLag(t *testing.T) {
	s := servertest.Start(t, servertest.Dir(t.TempDir()))
	c, err := client.Dial(t.Context(), s.URL, client.Options{User: "shop"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	publish := func(text string) {
		t.Helper()
		if _, err := c.Publish(t.Context(), parley.Message{Topic: "/orders", Body: []byte(text)}); err != nil {
			t.Fatal(err)
		}
	}
	publish("a")
	for d, err := range c.Durable(t.Context(), "/orders", "billing", client.After(0)) {
		if err == nil {
			err = d.Ack(t.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
		break
	}
	if _, err := c.Send(t.Context(), client.Letter{To: []string{"shop"}, Body: []byte("x")}); err != nil {
		t.Fatal(err)
	}
	for d, err := range c.Inbox(t.Context()) {
		if err == nil {
			err = d.Ack(t.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
		break
	}
	publish("b")
	publish("c")
	got := request(t, http.MethodGet, s.URL+"/admin/metrics", nil).body
	if want := `parley_durable_lag_messages{name="billing",owner="shop",topic="/orders"} 2` + "\n"; !strings.Contains(got, want) || strings.Count(got, "\nparley_durable_lag_messages") != 1 {
		t.Errorf("the metrics have not %s but\n%s", want, got)
	}
}
