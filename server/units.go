package server

import (
	"time"

	"github.com/parley-im/parley/internal/units"
)

// ParseDuration reads a duration as settings and commands write it: Go's
// syntax, before which whole days may stand, such as 90s, 1h30m, 7d or 1d12h.
// It may not be negative.
func ParseDuration(s string) (time.Duration, error) { return units.ParseDuration(s) }

// formatDuration writes what ParseDuration reads, in as few units as it can.
func formatDuration(d time.Duration) string { return units.FormatDuration(d) }

// ParseSize reads a number of bytes as settings and commands write it: a whole
// number, alone or with B, KiB, MiB, GiB or TiB. It may not be negative.
func ParseSize(s string) (int64, error) { return units.ParseSize(s) }

// FormatSize writes what ParseSize reads, in the largest unit that is exact.
func FormatSize(n int64) string { return units.FormatSize(n) }
