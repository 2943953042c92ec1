package protocoltest

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// An exchange is one request of a conversation and its answer.
type exchange struct {
	line    int // of the request
	answer  int // line of the status
	request []string
	want    []string
}

// An HTTPScript is one conversation over HTTP.
type HTTPScript struct {
	File string
	Line int // of the opening fence

	exchanges []exchange
}

// ReadHTTPFile returns the conversations over HTTP in a Markdown file, in order.
// An error names the file and the line.
func ReadHTTPFile(file string) ([]HTTPScript, error) {
	p, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	blocks, err := blocksOf(file, p, func(info string) bool { return info == "transcript http" })
	if err != nil {
		return nil, err
	}
	var scripts []HTTPScript
	for _, b := range blocks {
		s := HTTPScript{File: file, Line: b.line}
		for i, text := range b.lines {
			if err := s.add(b.line+1+i, text); err != nil {
				return nil, fmt.Errorf("%s:%d: %w", file, b.line+1+i, err)
			}
		}
		if n := len(s.exchanges); n > 0 && s.exchanges[n-1].want == nil {
			return nil, fmt.Errorf("%s:%d: the last request has no answer", file, b.end)
		}
		scripts = append(scripts, s)
	}
	return scripts, nil
}

// add appends what line n says.
func (s *HTTPScript) add(n int, text string) error {
	if text == "" || strings.HasPrefix(text, "//") {
		return nil
	}
	rest := strings.TrimPrefix(text[1:], " ")
	last := len(s.exchanges) - 1
	switch text[0] {
	case '>':
		if last < 0 || s.exchanges[last].want != nil {
			s.exchanges = append(s.exchanges, exchange{line: n})
			last++
		}
		s.exchanges[last].request = append(s.exchanges[last].request, rest)
		return nil
	case '<':
		if last < 0 {
			return fmt.Errorf("%q answers nothing", text)
		}
		if s.exchanges[last].want == nil {
			s.exchanges[last].answer = n
		}
		s.exchanges[last].want = append(s.exchanges[last].want, rest)
		return nil
	}
	return fmt.Errorf("%q is neither > nor <", text)
}

// RunHTTP replays every conversation over HTTP of a Markdown file, each as a test
// of its own against the empty server whose URL start returns. A file without
// any is a fault.
func RunHTTP(t *testing.T, file string, start func(t *testing.T) (url string)) {
	t.Helper()
	scripts, err := ReadHTTPFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if len(scripts) == 0 {
		t.Fatalf("%s has no transcript of http", file)
	}
	for _, s := range scripts {
		t.Run("line_"+strconv.Itoa(s.Line), func(t *testing.T) {
			if err := ReplayHTTP(t.Context(), s, start(t)); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// ReplayHTTP plays one conversation with the server at url. The error says in
// which line of which file the server did something else, what was wanted and
// what came.
func ReplayHTTP(ctx context.Context, s HTTPScript, url string) error {
	known := names{}
	for _, e := range s.exchanges {
		if err := e.play(ctx, known, url); err != nil {
			return fmt.Errorf("%s:%w", s.File, err)
		}
	}
	return nil
}

// play makes one request and compares its answer.
func (e *exchange) play(ctx context.Context, known names, url string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	r, err := e.make(ctx, known, url)
	if err != nil {
		return fmt.Errorf("%d: %w", e.line, err)
	}
	transport := &http.Transport{DisableCompression: true}
	defer transport.CloseIdleConnections()
	resp, err := transport.RoundTrip(r) // follows no redirect
	if err != nil {
		return fmt.Errorf("%d: %w", e.line, err)
	}
	defer func() { _ = resp.Body.Close() }()
	if err := e.compare(known, resp); err != nil {
		return fmt.Errorf("%d: %w%s", e.answer, err, known)
	}
	return nil
}

// make makes the request.
func (e *exchange) make(ctx context.Context, known names, url string) (*http.Request, error) {
	method, path, ok := strings.Cut(known.fill(e.request[0]), " ")
	if !ok {
		return nil, fmt.Errorf("%q is no request", e.request[0])
	}
	header, body := e.request[1:], ""
	for i, line := range header {
		if line == "" {
			header, body = header[:i], strings.Join(header[i+1:], "\n")
			break
		}
	}
	body, err := literal(known.fill(body))
	if err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(ctx, method, url+path, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("User-Agent", "transcript")
	for _, line := range header {
		name, value, ok := strings.Cut(line, ": ")
		if !ok {
			return nil, fmt.Errorf("%q is no header", line)
		}
		r.Header.Add(name, known.fill(value))
	}
	return r, nil
}

// literal is what a Go string literal says; other text is taken as it stands.
func literal(text string) (string, error) {
	if !strings.HasPrefix(text, `"`) {
		return text, nil
	}
	s, err := strconv.Unquote(text)
	if err != nil {
		return "", fmt.Errorf("%s is not a Go string", text)
	}
	return s, nil
}

// compare compares the answer with what is wanted.
func (e *exchange) compare(known names, resp *http.Response) error {
	if got := strconv.Itoa(resp.StatusCode); got != e.want[0] {
		body, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
		return fmt.Errorf("want the status %s, got %s %s", e.want[0], got, body)
	}
	header := regexp.MustCompile(`^([A-Za-z][A-Za-z-]*): (.*)$`)
	rest := e.want[1:]
	for len(rest) > 0 {
		m := header.FindStringSubmatch(rest[0])
		if m == nil {
			break
		}
		if got := resp.Header.Get(m[1]); !known.match(m[2], got) {
			return fmt.Errorf("want the header %s: %q, got %q", m[1], m[2], got)
		}
		rest = rest[1:]
	}
	if len(rest) > 0 && rest[0] == "" {
		rest = rest[1:]
	}
	switch {
	case len(rest) == 0:
		return nil
	case rest[len(rest)-1] == "…":
		return known.matchBeginning(rest[:len(rest)-1], resp.Body)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return fmt.Errorf("the body: %w", err)
	}
	want, err := literal(strings.Join(rest, "\n"))
	if err != nil {
		return err
	}
	if got := strings.TrimSuffix(string(body), "\n"); !known.match(want, got) {
		return fmt.Errorf("\nwant %s\ngot  %s", want, got)
	}
	return nil
}

// matchBeginning compares the first lines of a body that goes on.
func (n names) matchBeginning(lines []string, body io.Reader) error {
	r := bufio.NewReader(body)
	for _, want := range lines {
		got, err := r.ReadString('\n')
		if err != nil {
			return fmt.Errorf("want the line %q, got %q and %w", want, got, err)
		}
		if got = strings.TrimSuffix(got, "\n"); !n.match(want, got) {
			return fmt.Errorf("\nwant %s\ngot  %s", want, got)
		}
	}
	return nil
}
