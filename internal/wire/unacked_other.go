//go:build !linux

package wire

import (
	"syscall"
	"time"
)

// limitUnacknowledged leaves it to the kernel when to give up a peer that
// acknowledges nothing.
func limitUnacknowledged(syscall.RawConn, time.Duration) {}
