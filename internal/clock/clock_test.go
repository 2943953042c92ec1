package clock_test

import (
	"bytes"
	"log/slog"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parley-im/parley/internal/clock"
)

const year = 365 * 24 * time.Hour

// world is a clock's surroundings: the true time, and a wall clock that is off.
type world struct {
	elapsed, off time.Duration
	log          bytes.Buffer
}

func (w *world) start() time.Time { return time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC) }

func (w *world) truth() time.Time { return w.start().Add(w.elapsed) }

func (w *world) clock() *clock.Clock {
	return clock.New(clock.Options{
		Wall:    func() time.Time { return w.truth().Add(w.off) },
		Elapsed: func() time.Duration { return w.elapsed },
		Logger:  slog.New(slog.NewTextHandler(&w.log, nil)),
	})
}

// TestJumps: after a jump what is written down has the right time or a later
// one, and what is judged is judged by the time that has elapsed.
func TestJumps(t *testing.T) {
	for _, by := range []time.Duration{time.Hour, -time.Hour, year, -year} {
		w := &world{}
		c := w.clock()
		w.elapsed = time.Minute
		w.off = by
		now, past := c.Now().Sub(w.truth()), c.Past().Sub(w.truth())
		if now != max(0, by) && by > 0 || past > time.Minute/8 || past != min(past, by) && by < 0 {
			t.Errorf("%v: now is off by %v, past by %v", by, now, past)
		}
		if by < 0 && (now > 0 || now < -time.Minute/2) {
			t.Errorf("%v: now is off by %v", by, now)
		}
		if behind := c.Behind(); by > 0 && behind != 0 || by < 0 && behind < -by-time.Minute/2 {
			t.Errorf("%v: behind by %v", by, behind)
		}
		for range 100 {
			w.elapsed += time.Second
			c.Now()
		}
		if n := strings.Count(w.log.String(), "was set"); n != 1 || !strings.Contains(w.log.String(), "by="+by.String()) {
			t.Errorf("%v: logged %d times: %s", by, n, w.log.String())
		}

		// In the end it follows: back at half speed, forward by an eighth.
		w.elapsed += by.Abs() * 9
		if now, past := c.Now().Sub(w.truth()), c.Past().Sub(w.truth()); now != by || past != by {
			t.Errorf("%v, later: now is off by %v, past by %v", by, now, past)
		}
	}
}

// TestNothingEndsEarly sets the wall clock at random, to and fro, and reads it at
// random: what is to last a while lasts that long, but for the eighth.
func TestNothingEndsEarly(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, seed))
	for range 200 {
		w := &world{}
		c := w.clock()
		type promise struct {
			made, lasts time.Duration
			ends        time.Time
		}
		var promises []promise
		for range 500 {
			passed := time.Duration(r.Int64N(int64(10 * time.Minute)))
			w.elapsed += passed
			if r.IntN(20) == 0 {
				w.off = time.Duration(r.Int64N(int64(2*year))) - year
			}
			now := c.Now()
			lasts := time.Duration(r.Int64N(int64(24 * time.Hour)))
			promises = append(promises, promise{w.elapsed, lasts, now.Add(lasts)})
			past := c.Past()
			for _, p := range promises {
				if over := !p.ends.After(past); over && w.elapsed-p.made < p.lasts*8/9 {
					t.Fatalf("what was to last %v was over after %v", p.lasts, w.elapsed-p.made)
				}
			}
		}
	}
}

// TestDisciplinedClock: a clock that is a little off is followed without a word.
func TestDisciplinedClock(t *testing.T) {
	w := &world{}
	c := w.clock()
	for n := range 10_000 {
		w.elapsed += time.Minute
		w.off = time.Duration(n) * time.Minute / 2000 // 500 ppm
		if now, past := c.Now(), c.Past(); !now.Equal(past) || !now.Equal(w.truth().Add(w.off)) {
			t.Fatalf("now is %v, past %v, the wall clock %v", now, past, w.truth().Add(w.off))
		}
	}
	if w.log.Len() > 0 {
		t.Errorf("logged: %s", w.log.String())
	}
}

// TestDefault: without options it is Go's clock, in virtual time too.
func TestDefault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := clock.New(clock.Options{})
		time.Sleep(time.Hour)
		if now, past := c.Now(), c.Past(); !now.Equal(time.Now()) || !past.Equal(now) || c.Behind() != 0 {
			t.Errorf("now is %v, past %v, want %v", now, past, time.Now())
		}
	})
}
