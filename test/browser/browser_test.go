package browser_test

import (
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/client"
	"github.com/parley-im/parley/server"
	"github.com/parley-im/parley/server/servertest"
)

const (
	follow              = "follow-from-a-browser.md"
	topic  parley.Topic = "/hello"
)

// publish publishes bodies by way of a connection of its own.
func publish(t *testing.T, s *servertest.Server, bodies ...string) {
	t.Helper()
	c, err := client.Dial(t.Context(), s.URL, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, body := range bodies {
		if _, err := c.Publish(t.Context(), parley.Message{Topic: topic, Body: []byte(body)}); err != nil {
			t.Fatal(err)
		}
	}
}

// purge removes all messages of the topic.
func purge(t *testing.T, s *servertest.Server) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodDelete, s.Admin+"/v1/topics"+string(topic), http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	response, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(request)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusOK {
		t.Fatalf("purging: %s", response.Status)
	}
}

// TestPageOfAnotherOrigin: a page of a site that --allow-origin names follows
// through everything that happens to it, and shows every message once and in
// order.
func TestPageOfAnotherOrigin(t *testing.T) {
	dir := servertest.Dir(t.TempDir())
	var b *browser
	admit := func(c *server.Config) {
		c.HTTP.OpenToNetwork = true // else any page of this machine may
		c.HTTP.Origins = []string{b.origin}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := l.Addr().String()
	l.Close()
	listen := func(c *server.Config) { c.HTTP.Listen = at }
	b = open(t, follow, func(string) string { return "'http://" + at + "'" }, nil)
	s := servertest.Start(t, dir, admit, listen)
	publish(t, s, "1", "2")
	b.start()
	b.is("live")
	b.shows("1", "2")
	publish(t, s, "3", "<b>4</b>")
	b.shows("1", "2", "3", "<b>4</b>")

	// The server stops, something else answers in its place, and what the next
	// one gets before the page is back is not missed.
	s.Stop()
	b.is("offline")
	refuse(t, at)
	s = servertest.Start(t, dir, admit, listen)
	publish(t, s, "5", "6")
	b.is("live")
	publish(t, s, "7")
	b.shows("1", "2", "3", "<b>4</b>", "5", "6", "7")

	// The page is left, and shown again later.
	b.visit("/nothing")
	publish(t, s, "8")
	b.visit("/page")
	b.shows("8")

	// What is gone is announced.
	b.visit("/nothing")
	publish(t, s, "9")
	purge(t, s)
	publish(t, s, "10")
	b.visit("/page")
	b.shows("(older messages are gone)", "10")
}

// refuse answers at an address as a proxy does that finds no server, until a
// page has come.
func refuse(t *testing.T, at string) {
	t.Helper()
	l, err := net.Listen("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	asked := make(chan struct{}, 100)
	proxy := &httptest.Server{Listener: l, Config: &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "no server", http.StatusBadGateway)
		asked <- struct{}{}
	})}}
	proxy.Start()
	defer proxy.Close()
	<-asked
}

// TestPageOfOwnOrigin: a page that comes from the server's own name needs no
// leave.
func TestPageOfOwnOrigin(t *testing.T) {
	s := servertest.Start(t, func(c *server.Config) { c.HTTP.OpenToNetwork = true })
	to, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(to) // which passes the Host on
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	proxy.Transport = transport
	b := open(t, follow, func(string) string { return "location.origin" }, map[string]http.Handler{"/v1/": proxy})
	b.start()
	b.is("live")
	for i := range 10 {
		publish(t, s, strconv.Itoa(i))
	}
	b.shows(strings.Split("0123456789", "")...)
}

// TestPageOfAStranger: a page that nobody named gets nothing.
func TestPageOfAStranger(t *testing.T) {
	s := servertest.Start(t, func(c *server.Config) { c.HTTP.OpenToNetwork = true })
	publish(t, s, "secret")
	b := open(t, follow, func(string) string { return "'" + s.URL + "'" }, nil)
	b.start()
	b.is("offline")
	b.until("the page shows nothing", func(s seen) bool { return len(s.Messages) == 0 })
}
