package protocoltest

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/parley-im/parley/internal/wire"
)

// patience is how long a frame may take to arrive. Only a failing test waits
// for so long.
const patience = 10 * time.Second

// Open opens a client's connection to the path of a request.
type Open func(path string) (wire.Conn, error)

// A Dialect says how to replay the scripts of one protocol.
type Dialect struct {
	// Name is the protocol's, in the info strings.
	Name string
	// Text says that the server's frames are text, otherwise that they are
	// binary. A client's frames are text wherever they can be.
	Text bool
	// Probe is a harmless command and Answer its only answer, in the form that
	// scripts have.
	Probe, Answer string
	// Start starts an empty server, to be stopped when t ends, and says how to
	// connect to it.
	Start func(t *testing.T) Open
}

// Run replays every script of a Markdown file, each as a test of its own. A
// file without any is a fault.
func Run(t *testing.T, file string, d Dialect) {
	t.Helper()
	scripts, err := ReadFile(file, d.Name)
	if err != nil {
		t.Fatal(err)
	}
	if len(scripts) == 0 {
		t.Fatalf("%s has no transcript of %s", file, d.Name)
	}
	for _, s := range scripts {
		t.Run(s.Name(), func(t *testing.T) {
			if err := Replay(s, d, d.Start(t)); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// Replay plays one script; d.Start is not used. The error says in which line of
// which file the server did something else, what was wanted and what came.
func Replay(s Script, d Dialect, open Open) error {
	r := &replay{dialect: d, open: open, names: names{}, peers: map[string]*peer{}}
	defer r.stop()
	return r.play(s)
}

type replay struct {
	dialect Dialect
	open    Open
	names   names
	peers   map[string]*peer
	order   []string // of peers
	past    []*peer  // whose names have returned
	readers sync.WaitGroup
}

func (r *replay) stop() {
	for _, p := range slices.AppendSeq(r.past, maps.Values(r.peers)) {
		close(p.done)
		_ = p.conn.Close(1000, "") // the server may have closed it already
	}
	r.readers.Wait()
}

func (r *replay) play(s Script) error {
	for _, st := range s.steps {
		if err := r.step(st); err != nil {
			return fmt.Errorf("%s:%d: %w", s.File, st.line, err)
		}
	}
	for _, name := range r.order {
		if r.peers[name].over {
			continue
		}
		if err := r.silence(r.peers[name]); err != nil {
			return fmt.Errorf("%s:%d: at the end of the transcript, connection %q: %w", s.File, s.End, name, err)
		}
	}
	return nil
}

func (r *replay) step(st step) error {
	if st.verb == opens {
		return r.connect(st.conn, st.text)
	}
	p, ok := r.peers[st.conn]
	if !ok {
		return fmt.Errorf("no connection %q is open", st.conn)
	}
	switch st.verb {
	case sends:
		return p.send(r.names.fill(st.text))
	case receives:
		return r.expect(p, st.text)
	case silent:
		return r.silence(p)
	case ends:
		return p.ended(st.text)
	case leaves:
		p.over = true
		return p.conn.Close(wire.CloseNormal, "")
	case opens:
	}
	return nil
}

// ended waits for the end of the connection, which must have that close code if
// there is one.
func (p *peer) ended(code string) error {
	f, err := p.next()
	if err == nil {
		return fmt.Errorf("want the end, got %q", f.Payload)
	}
	p.over = true
	closed, _ := errors.AsType[*wire.CloseError](p.err)
	if code != "" && (closed == nil || strconv.Itoa(int(closed.Code)) != code) {
		return fmt.Errorf("want the end with %s, got %w", code, err)
	}
	return nil
}

func (r *replay) connect(name, path string) error {
	if p, ok := r.peers[name]; ok {
		if !p.over {
			return fmt.Errorf("connection %q is open already", name)
		}
		r.past = append(r.past, p)
	} else {
		r.order = append(r.order, name)
	}
	conn, err := r.open(path)
	if err != nil {
		return fmt.Errorf("open %s: %w", path, err)
	}
	p := &peer{conn: conn, frames: make(chan wire.Frame), done: make(chan struct{})}
	r.peers[name] = p
	r.readers.Go(p.read)
	return nil
}

// expect takes p's next frame and compares it.
func (r *replay) expect(p *peer, want string) error {
	f, err := p.next()
	if err != nil {
		return fmt.Errorf("want %q, got %w", want, err)
	}
	if f.Text != r.dialect.Text {
		return fmt.Errorf("want a %s frame, got the %s frame %q", kind(r.dialect.Text), kind(f.Text), f.Payload)
	}
	if !r.names.match(want, string(f.Payload)) {
		return fmt.Errorf("\nwant %q\ngot  %q%s", want, f.Payload, r.names)
	}
	return nil
}

func kind(text bool) string {
	if text {
		return "text"
	}
	return "binary"
}

// silence shows that nothing is on its way to p.
func (r *replay) silence(p *peer) error {
	if err := p.send(r.dialect.Probe); err != nil {
		return err
	}
	f, err := p.next()
	if err != nil {
		return fmt.Errorf("want the answer to %q, got %w", r.dialect.Probe, err)
	}
	if !r.names.match(r.dialect.Answer, string(f.Payload)) {
		return fmt.Errorf("want nothing, got %q", f.Payload)
	}
	return nil
}

// String lists the names for an error.
func (n names) String() string {
	if len(n) == 0 {
		return ""
	}
	return fmt.Sprintf("\nwith %v", map[string]string(n))
}

// A peer is the client's side of one connection.
type peer struct {
	conn   wire.Conn
	frames chan wire.Frame // closed when the connection ends, err is set then
	err    error
	done   chan struct{} // closed when nobody takes frames any more
	over   bool          // one of the two has closed
}

func (p *peer) read() {
	defer close(p.frames)
	for {
		frames, err := p.conn.Read()
		for _, f := range frames {
			f.Payload = bytes.Clone(f.Payload)
			select {
			case p.frames <- f:
			case <-p.done:
				return
			}
		}
		if err != nil {
			p.err = err
			return
		}
	}
}

func (p *peer) next() (wire.Frame, error) {
	select {
	case f, ok := <-p.frames:
		if !ok {
			return f, fmt.Errorf("the end of the connection: %w", p.err)
		}
		return f, nil
	case <-time.After(patience):
		return wire.Frame{}, fmt.Errorf("nothing within %v", patience)
	}
}

func (p *peer) send(text string) error {
	return p.conn.Write(p.conn.AppendFrame(nil, utf8.ValidString(text), []byte(text)))
}
