package bench

import "time"

// pace says when a publisher's messages are due, in microseconds since the
// load began.
type pace struct {
	// interval is the time between two messages in microseconds; 0 sends as
	// fast as the window lets through.
	interval float64
	// end is when to stop.
	end int64
}

// newPace shares the rate of c among its publishers.
func newPace(c *Config) pace {
	p := pace{end: c.Duration.Microseconds()}
	if c.Rate > 0 {
		p.interval = 1e6 * float64(c.Publishers) / c.Rate
	}
	return p
}

// due is when message n of a publisher is to be sent, given that it is now; ok
// is false when the load is over by then.
func (p pace) due(n, now int64) (due int64, ok bool) {
	due = now
	if p.interval > 0 {
		due = int64(float64(n) * p.interval)
	}
	return due, due < p.end && now < p.end+graceMicros
}

// graceMicros is how long beyond its end an open loop may go on to send what
// was due before: a server far behind its load does not hold the bench up for
// ever.
const graceMicros = int64(5 * time.Second / time.Microsecond)
