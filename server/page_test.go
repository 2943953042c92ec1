package server_test

import (
	"context"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/parley-im/parley/server/servertest"
	"github.com/parley-im/parley/test/require"
)

// browser starts a headless Chromium, and collects what it complains about.
func browser(t *testing.T) (ctx context.Context, complaints func() []string) {
	t.Helper()
	name := require.Program(t, "chromium", "chromium", "chromium-headless-shell", "google-chrome")
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(name), chromedp.NoSandbox, chromedp.DisableGPU)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewExecAllocator(ctx, options...)
	t.Cleanup(cancel)
	var mu sync.Mutex
	var said []string
	complain := func(text string) {
		mu.Lock()
		defer mu.Unlock()
		said = append(said, text)
	}
	complaints = func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(said)
	}
	ctx, cancel = chromedp.NewContext(ctx, chromedp.WithListener(func(event any) {
		switch e := event.(type) {
		case *log.EventEntryAdded:
			complain(e.Entry.Text + " " + e.Entry.URL)
		case *runtime.EventExceptionThrown:
			complain(e.ExceptionDetails.Text)
		}
	}))
	t.Cleanup(cancel)
	return ctx, complaints
}

// TestPage opens the page that shows the API in a real browser, as wide as a
// phone, and publishes a message with it, by keyboard alone.
func TestPage(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a browser")
	}
	ctx, complaints := browser(t)
	s := servertest.Start(t)
	const form = "#publish form "
	err := chromedp.Do(ctx,
		chromedp.EmulateViewport(360, 740),
		chromedp.Navigate(s.URL+"/v1/docs#publish"),
		chromedp.WaitVisible(form+"input[name=topic]"),
		chromedp.SetValue(form+"input[name=topic]", "from/a/page"),
		chromedp.SetValue(form+"textarea[name=body]", "it's <b>me</b>"),
		chromedp.Focus(form+"input[name=id]"),
		chromedp.KeyEvent("id-1"+kb.Enter),
		chromedp.WaitVisible(form+"pre[role=status]"),
	)
	if err != nil {
		t.Fatalf("%v; the browser says %v", err, complaints())
	}
	wide := look[bool](ctx, t, "document.documentElement.scrollWidth > innerWidth")
	command := look[string](ctx, t, `document.querySelector("#publish pre:not([role])").textContent`)
	answer := "…"
	eventually(t, "the page shows an answer", func() bool {
		answer = look[string](ctx, t, `document.querySelector("#publish pre[role=status]").textContent`)
		return answer != "…"
	})
	if !strings.HasPrefix(answer, "201 Created") || !strings.Contains(answer, `"topic":"/from/a/page"`) {
		t.Errorf("the page shows the answer %q", answer)
	}
	if wide {
		t.Error("the page is wider than a phone")
	}
	got := request(t, "GET", s.URL+"/v1/messages/from/a/page", nil)
	if !strings.Contains(got.body, `"id":"id-1","headers":{"Content-Type":"text/plain"},"text":"it's <b>me</b>"`) {
		t.Errorf("the server has %s", got.body)
	}
	// The command that the page shows does the same.
	if _, err := exec.LookPath("curl"); err == nil {
		c := exec.CommandContext(t.Context(), "sh", "-c", command)
		c.Env = os.Environ()
		if out, err := c.Output(); err != nil || !strings.Contains(string(out), `"topic":"/from/a/page"`) {
			t.Errorf("%s: %v %s", command, err, out)
		}
	}
	if said := complaints(); len(said) > 0 {
		t.Errorf("the browser says %v", said)
	}
}

// look evaluates an expression on the page.
func look[T any](ctx context.Context, t *testing.T, expression string) T {
	t.Helper()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression))
	if err != nil {
		t.Fatalf("%s: %v", expression, err)
	}
	return v
}
