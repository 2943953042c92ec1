// Package clock tells the time to what must not be misled by a wall clock that
// is set. It imports the standard library only.
package clock

import (
	"log/slog"
	"sync"
	"time"
)

// Clock reads a wall clock and keeps a steady one beside it. The steady clock
// starts as the wall clock is, advances with the time that really elapses, and
// follows the wall clock only slowly when that is set: it runs at most an eighth
// faster than time, and at least half as fast. So a jump of the wall clock, by a
// year or an hour, forward or back, is no reason to think that a year has passed.
//
// Two readings are told, and a third for who needs to translate:
//
//   - [Clock.Now], the later of both clocks, is for what is written down: when a
//     message was stored, when something ends. It follows at once a wall clock
//     that is set forward, or back from there, and slowly one that is set back.
//   - [Clock.Past], the earlier of both, is for what is judged: whether a message
//     has expired, is too old to keep, or has left a window. What Past has
//     reached has come whichever clock is right.
//   - [Clock.Behind] is by how much Now is ahead of the wall clock.
//
// Written with Now and judged with Past, nothing ever ends early but by the
// eighth; it may end late by the size of a jump. A new Clock, as after a restart,
// believes the wall clock. The methods may be called concurrently.
type Clock struct {
	opt Options

	mu      sync.Mutex
	steady  time.Time     // as of last
	last    time.Duration // of Elapsed
	offset  time.Duration // of the wall clock to the steady one, as of last
	started bool
}

// Options are where a Clock reads the time. The zero value is useful.
type Options struct {
	// Wall is the wall clock; nil is time.Now.
	Wall func() time.Time
	// Elapsed is the time since some moment, which nobody can set; nil is Go's
	// monotonic clock, which on Linux stands still while the machine sleeps.
	Elapsed func() time.Duration
	// Logger is told when the wall clock is set; nil is slog.Default().
	Logger *slog.Logger
}

// How fast the steady clock may follow the wall clock, as parts of the time that
// elapsed.
const (
	forward  = 8
	backward = 2
)

// jump is how far the wall clock must move by itself, beyond a thousandth of the
// time that elapsed, to be called set. Clocks that are disciplined move less.
const jump = time.Second

// New makes a clock that starts as the wall clock is.
func New(opt Options) *Clock {
	if opt.Wall == nil {
		opt.Wall = time.Now
	}
	if opt.Elapsed == nil {
		began := time.Now()
		opt.Elapsed = func() time.Duration { return time.Since(began) }
	}
	if opt.Logger == nil {
		opt.Logger = slog.Default()
	}
	c := &Clock{opt: opt}
	c.read()
	return c
}

// Now is the later of the wall clock and the steady one.
func (c *Clock) Now() time.Time {
	wall, steady := c.read()
	if wall.After(steady) {
		return wall
	}
	return steady
}

// Past is the earlier of the wall clock and the steady one.
func (c *Clock) Past() time.Time {
	wall, steady := c.read()
	if wall.Before(steady) {
		return wall
	}
	return steady
}

// Behind is how far the wall clock is behind the steady one: what must be added
// to a moment that was reckoned by the wall clock to make it one of Now. It is 0
// unless the wall clock was set back.
func (c *Clock) Behind() time.Duration {
	wall, steady := c.read()
	return max(0, steady.Sub(wall))
}

// read reads both clocks, without monotonic parts.
func (c *Clock) read() (wall, steady time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	wall, now := c.opt.Wall().Round(0), c.opt.Elapsed()
	if !c.started {
		c.started, c.steady, c.last = true, wall, now
	}
	elapsed := max(0, now-c.last)
	free := c.steady.Add(elapsed)
	offset := wall.Sub(free)
	moved := offset - c.offset
	follow := min(max(offset, -elapsed/backward), elapsed/forward)
	c.steady, c.last, c.offset = free.Add(follow), now, offset-follow
	if moved.Abs() > jump+elapsed/1000 {
		c.opt.Logger.Warn("the wall clock was set: what expires and what is kept goes by the time that elapses",
			"by", moved.String(), "wall", wall, "steady", c.steady)
	}
	return wall, c.steady
}
