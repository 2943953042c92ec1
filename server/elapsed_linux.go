package server

import (
	"time"

	"golang.org/x/sys/unix"
)

// elapsed is the time since the machine was started, its sleep included, which
// Go's own monotonic clock leaves out: a laptop that wakes up has not had its
// clock set.
func elapsed() func() time.Duration {
	return func() time.Duration {
		var t unix.Timespec
		_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &t) // it cannot fail with a clock that exists since Linux 2.6.39
		return time.Duration(t.Nano())
	}
}
