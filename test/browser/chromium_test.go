package browser_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/parley-im/parley/test/require"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// documented is the page that a page of docs/tasks shows, for a server at url.
func documented(t *testing.T, task, url string) string {
	t.Helper()
	doc, err := os.ReadFile("../../docs/tasks/" + task)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(doc), "```html\n")
	page, _, found := strings.Cut(rest, "```\n")
	const server = `'http://127.0.0.1:8080'`
	if !found || !strings.Contains(page, server) {
		t.Fatal("the documentation shows no page")
	}
	return strings.Replace(page, server, url, 1)
}

// frame holds the documented page, tells the test what it shows, and does what
// the test answers: shows the page, or nothing, or has it say something.
const frame = `<!doctype html><iframe src="/page"></iframe><script>
const frame = document.querySelector('iframe')
let path = '/page', said = ''
setInterval(async () => {
  const page = frame.contentDocument
  const seen = {
    path: page.location.pathname,
    state: page.querySelector('#state')?.textContent ?? '',
    unread: page.querySelector('#unread')?.textContent ?? '',
    messages: [...page.querySelectorAll('#messages li')].map((item) => item.textContent),
  }
  const answer = await fetch('/seen', {method: 'POST', body: JSON.stringify(seen)})
  const wanted = await answer.json()
  if (wanted.path !== path) frame.src = path = wanted.path
  if (wanted.say !== said) {
    const form = page.querySelector('form');
    [form.to.value, form.text.value] = (said = wanted.say).split(' ')
    form.requestSubmit()
  }
}, 50)
</script>`

// seen is what a page shows.
type seen struct {
	Path, State, Unread string
	Messages            []string
}

// browser is a browser that shows one page.
type browser struct {
	t      *testing.T
	origin string

	mu     sync.Mutex // guards what follows
	wanted wanted
	seen   seen
}

// wanted is what the frame is to do: show the page at that path, and when Say
// changes, send it: a recipient and a word.
type wanted struct {
	Path string `json:"path"`
	Say  string `json:"say"`
}

// serve serves the frame and the page, and learns what it shows.
func (b *browser) serve(page func() string) http.Handler {
	mux := http.NewServeMux()
	html := func(path string, text func() string) {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			_, _ = io.WriteString(w, text())
		})
	}
	html("/{$}", func() string { return frame })
	html("/page", page)
	html("/nothing", func() string { return "" })
	mux.HandleFunc("POST /seen", func(w http.ResponseWriter, r *http.Request) {
		var s seen
		err := json.NewDecoder(r.Body).Decode(&s)
		b.mu.Lock()
		defer b.mu.Unlock()
		if err == nil {
			b.seen = s
		}
		_ = json.NewEncoder(w).Encode(b.wanted)
	})
	return mux
}

// open makes a site of its own for the page that a task documents, for the server
// that url says, an expression of JavaScript. Other paths are served by more.
func open(t *testing.T, task string, url func(origin string) string, more map[string]http.Handler) *browser {
	t.Helper()
	b := &browser{t: t, wanted: wanted{Path: "/page"}}
	mux := http.NewServeMux()
	site := httptest.NewServer(mux)
	t.Cleanup(site.Close)
	b.origin = site.URL
	page := documented(t, task, url(b.origin))
	mux.Handle("/", b.serve(func() string { return page }))
	for path, handler := range more {
		mux.Handle(path, handler)
	}
	return b
}

// start starts the browser.
func (b *browser) start() {
	t := b.t
	t.Helper()
	binary := require.Program(t, "chromium", "chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
	// Its debugging port keeps it from ending when the page is loaded.
	c := exec.CommandContext(context.WithoutCancel(t.Context()), binary, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
		"--no-first-run", "--user-data-dir="+t.TempDir(), "--remote-debugging-port=0", b.origin)
	var said bytes.Buffer
	c.Stdout, c.Stderr = &said, &said
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // so that its children end with it
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-c.Process.Pid, syscall.SIGKILL)
		_ = c.Wait()
		if t.Failed() {
			t.Logf("the browser said:\n%s", said.String())
		}
	})
}

// visit shows a page of the site, and waits until it does.
func (b *browser) visit(path string) {
	b.t.Helper()
	b.mu.Lock()
	b.wanted.Path = path
	b.mu.Unlock()
	b.until("the browser shows "+path, func(s seen) bool { return s.Path == path })
}

// say has the page send a word to a user.
func (b *browser) say(to, word string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.wanted.Say = to + " " + word
}

// until waits until the page shows something.
func (b *browser) until(what string, shown func(seen) bool) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		b.mu.Lock()
		s := b.seen
		b.mu.Unlock()
		if shown(s) {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			b.t.Fatalf("not within a minute: %s; the page shows %+v", what, s)
		}
	}
}

// shows waits until the page shows these messages and no others.
func (b *browser) shows(messages ...string) {
	b.t.Helper()
	want := strings.Join(messages, ", ")
	b.until("the page shows "+want, func(s seen) bool { return strings.Join(s.Messages, ", ") == want })
}

// is waits until the page says that it is live, or not.
func (b *browser) is(state string) {
	b.t.Helper()
	b.until("the page is "+state, func(s seen) bool { return s.State == state })
}
