package limit

import (
	"fmt"
	"time"

	"github.com/parley-im/parley"
)

// Rate is how much may happen: Count in each Per on average, and up to Burst at
// once. The zero Rate is no limit.
type Rate struct {
	Count int64
	Per   time.Duration
	Burst int64 // at least 1
}

// Limited reports whether r limits anything.
func (r Rate) Limited() bool { return r.Count > 0 && r.Per > 0 }

// spacing is how long the rate takes to give back n.
func (r Rate) spacing(n int64) time.Duration {
	d := float64(n) / float64(r.Count) * float64(r.Per)
	return time.Duration(min(d, float64(maxDebt)))
}

// maxDebt bounds how far ahead of time something may be paid for, so that no sum
// of times overflows.
const maxDebt = 100 * 365 * 24 * time.Hour

// ExceededError is a request that was refused because there were too many. It
// wraps parley.ErrUnavailable: the same request may succeed after After.
type ExceededError struct {
	// What there was too much of, such as "publishes of this user".
	What  string
	After time.Duration
}

// Error says what there is too much of and when to come again.
func (e *ExceededError) Error() string {
	return fmt.Sprintf("too many %s, try again in %v: %v", e.What, e.Wait(), parley.ErrUnavailable)
}

// Wait is After, rounded up to what people read.
func (e *ExceededError) Wait() time.Duration {
	step := 10 * time.Millisecond
	if e.After > time.Second {
		step = time.Second
	}
	return (e.After + step - 1).Truncate(step)
}

// Unwrap is parley.ErrUnavailable.
func (e *ExceededError) Unwrap() error { return parley.ErrUnavailable }
