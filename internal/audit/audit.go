// Package audit tells operators who was refused what, and who did what is an
// operator's business. Everything is counted; what strangers can cause is sampled
// into the log, so that nobody can flood it.
package audit

import (
	"context"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode"

	"github.com/parley-im/parley/internal/limit"
)

// Kind is what happened.
type Kind int

// The kinds.
const (
	Login    Kind = iota // somebody has proved who they are; counted only
	Failure              // somebody has not
	Denial               // somebody may not do what they asked for
	Exceeded             // somebody did too much
	Admin                // an operator's business was done
	Revoked              // sessions were ended before their time
	kinds
)

// String is the kind's name in the log and in metrics.
func (k Kind) String() string {
	return [kinds]string{"login", "failure", "denial", "exceeded", "admin", "revoked"}[k]
}

// Event is one thing that happened. Its texts may come from strangers; it holds
// no secret.
type Event struct {
	Kind    Kind
	Address netip.Addr
	// Protocol is what the client speaks.
	Protocol string
	// User and Credential are who it was, as far as that is proved.
	User, Credential string
	// What is what was asked for, such as an operation and a topic, or why it was
	// refused.
	What string
}

// How much is shown: of one kind from one address, and of all kinds together but
// Admin and Revoked, which only those who may can cause.
const (
	addresses = 4096
	longest   = 256 // bytes of one text
)

func perAddress() limit.Rate { return limit.Rate{Count: 1, Per: 10 * time.Second, Burst: 5} }
func together() limit.Rate   { return limit.Rate{Count: 10, Per: time.Second, Burst: 100} }

// source is what is sampled by itself.
type source struct {
	kind    Kind
	address netip.Addr
}

// Log counts events and shows some. Its methods may be called concurrently.
type Log struct {
	logger  *slog.Logger
	shown   *limit.Table[source]
	all     *limit.Table[struct{}]
	counted [kinds]atomic.Int64
	hidden  [kinds]atomic.Int64 // since it was started

	mu     sync.Mutex
	unsaid [kinds]int64 // hidden and not said to be
}

// New makes a log that shows what it shows to logger, in the group "audit".
func New(logger *slog.Logger) *Log {
	return &Log{logger: logger, shown: limit.NewTable[source](addresses), all: limit.NewTable[struct{}](1)}
}

// Record counts e and may show it.
func (l *Log) Record(ctx context.Context, e *Event) {
	l.counted[e.Kind].Add(1)
	if e.Kind == Login {
		return
	}
	unsaid, show := l.sample(e)
	if !show {
		return
	}
	attrs := []any{slog.String("kind", e.Kind.String())}
	for _, a := range []struct{ name, text string }{
		{"address", addressText(e.Address)}, {"protocol", e.Protocol}, {"user", e.User}, {"credential", e.Credential}, {"what", e.What},
	} {
		if a.text != "" {
			attrs = append(attrs, slog.String(a.name, plain(a.text)))
		}
	}
	if unsaid > 0 {
		attrs = append(attrs, slog.Int64("suppressed", unsaid))
	}
	level := slog.LevelWarn
	if e.Kind == Admin || e.Kind == Revoked {
		level = slog.LevelInfo
	}
	l.logger.Log(ctx, level, "audit", slog.Group("audit", attrs...))
}

// sample decides whether e is shown, and how many of its kind were not since the
// last that was.
func (l *Log) sample(e *Event) (unsaid int64, show bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e.Kind != Admin && e.Kind != Revoked {
		if l.shown.Spend(source{e.Kind, e.Address}, perAddress(), 1) > 0 || l.all.Spend(struct{}{}, together(), 1) > 0 {
			l.hidden[e.Kind].Add(1)
			l.unsaid[e.Kind]++
			return 0, false
		}
	}
	unsaid, l.unsaid[e.Kind] = l.unsaid[e.Kind], 0
	return unsaid, true
}

// Counts is how many events there were of each kind, and how many of them were
// not shown.
func (l *Log) Counts() (counted, hidden map[string]int64) {
	counted, hidden = make(map[string]int64), make(map[string]int64)
	for k := range kinds {
		counted[k.String()] = l.counted[k].Load()
		if k != Login {
			hidden[k.String()] = l.hidden[k].Load()
		}
	}
	return counted, hidden
}

func addressText(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

// plain is a stranger's text without what could pretend to be another line, or
// move a terminal's cursor, and not too long.
func plain(s string) string {
	if len(s) > longest {
		s = s[:longest] + "…"
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || !unicode.IsGraphic(r) {
			return unicode.ReplacementChar
		}
		return r
	}, strings.ToValidUTF8(s, string(unicode.ReplacementChar)))
}
