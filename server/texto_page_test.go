package server_test

import (
	"context"
	"fmt"
	"net"
	"regexp"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/parley-im/parley/server"
	"github.com/parley-im/parley/server/servertest"
)

// window is one browser window with the Texto page, as wide as a phone.
type window struct {
	t   *testing.T
	ctx func() context.Context
}

func (w *window) do(actions ...chromedp.Action[chromedp.Void]) {
	w.t.Helper()
	if err := chromedp.Do(w.ctx(), actions...); err != nil {
		w.t.Fatal(err)
	}
}

// text is what an element shows.
func (w *window) text(selector string) string {
	w.t.Helper()
	return look[string](w.ctx(), w.t, `document.querySelector("`+selector+`").textContent`)
}

// is waits until an element shows something.
func (w *window) is(selector string, shows func(string) bool) string {
	w.t.Helper()
	var got string
	eventually(w.t, selector+" shows what it should", func() bool {
		got = w.text(selector)
		return shows(got)
	})
	return got
}

// id waits until the window has an id.
func (w *window) id() string {
	w.t.Helper()
	return w.is("#me", regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`).MatchString)
}

// send fills the form and sends it, as pressing Enter does in the window that is
// in front.
func (w *window) send(to, text string) {
	w.t.Helper()
	look[bool](w.ctx(), w.t, fmt.Sprintf(`document.querySelector("#error").textContent = "", document.querySelector("#to").value = %q, document.querySelector("#text").value = %q,
		document.querySelector("#send").requestSubmit(document.querySelector("#submit")), true`, to, text))
}

func contains(part string) func(string) bool {
	return func(s string) bool { return strings.Contains(s, part) }
}

// TestTextoPage: two windows chat, a bad recipient is refused, and when the server
// restarts both say so and go on.
func TestTextoPage(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a browser")
	}
	ctx, complaints := browser(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := l.Addr().String()
	l.Close()
	listen := func(c *server.Config) { c.HTTP.Listen = at }
	s := servertest.Start(t, listen)
	other, cancel := chromedp.NewContext(ctx)
	defer cancel()
	ann, bob := &window{t, func() context.Context { return ctx }}, &window{t, func() context.Context { return other }}
	for _, w := range []*window{ann, bob} {
		w.do(chromedp.EmulateViewport(360, 740), chromedp.Navigate(s.URL+"/texto"))
		w.is("#state", contains("Connected."))
		eventually(t, "the window is ready", func() bool { return !look[bool](w.ctx(), t, `document.querySelector("#submit").disabled`) })
	}
	if ann.id() == bob.id() {
		t.Fatal("both windows are the same session")
	}

	// What is no recipient is refused, and nothing is sent.
	for _, wrong := range []string{"", "bob", bob.id()[1:], bob.id()[:14] + "1" + bob.id()[15:]} {
		ann.send(wrong, "hello?")
		ann.is("#error", contains("not an id"))
	}
	ann.send(bob.id(), "")
	ann.is("#error", contains("no message"))

	// They chat; what they say is text, whatever it looks like.
	const markup = `<img src=x onerror="document.title='gone'"> & "so" é 😀`
	ann.send(" "+strings.ToUpper(bob.id())+" ", markup)
	bob.is("#messages", contains(markup))
	if from := bob.text("#messages li .from"); from != ann.id() {
		t.Errorf("bob sees a message from %q", from)
	}
	ann.is("#messages", contains("You to "+bob.id()))
	ann.is("#error", func(s string) bool { return s == "" })
	bob.do(chromedp.Click("#messages li button"), chromedp.KeyEvent("hi back"+kb.Enter)) // to where the button has led
	ann.is("#messages", contains("hi back"))
	if wide := look[bool](ctx, t, "document.documentElement.scrollWidth > innerWidth"); wide {
		t.Error("the page is wider than a phone")
	}
	if title := look[string](other, t, "document.title"); title != "Texto" {
		t.Errorf("the title is %q", title)
	}
	ann.do(chromedp.Click("#copy"))
	ann.is("#copy", contains("Copied"))

	if said := complaints(); len(said) > 0 {
		t.Errorf("the browser says %v", said)
	}
	// The server restarts.
	was := ann.id()
	for _, w := range []*window{ann, bob} { // what is shown for a moment only counts as well
		look[bool](w.ctx(), t, `window.states = "", new MutationObserver(() => { states += document.querySelector("#state").textContent + "\n" })
			.observe(document.querySelector("#state"), {childList: true, characterData: true, subtree: true}), true`)
	}
	s.Stop()
	for _, w := range []*window{ann, bob} {
		eventually(t, "the window says that the server restarts", func() bool {
			return strings.Contains(look[string](w.ctx(), t, "states"), "The server restarts. Connecting again…")
		})
	}
	servertest.Start(t, listen)
	for _, w := range []*window{ann, bob} {
		w.is("#state", contains("Connected again. Your id is another one now."))
	}
	if ann.id() == was {
		t.Error("the session has its old id")
	}
	ann.send(bob.id(), "still there?")
	bob.is("#messages", contains("still there?"))
}
