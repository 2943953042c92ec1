//go:build !linux

package server

import "time"

// elapsed chooses Go's monotonic clock.
func elapsed() func() time.Duration { return nil }
