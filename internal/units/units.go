// Package units reads and writes durations and sizes as people do: 30d, 10GiB.
package units

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// day is the unit that Go's durations lack.
const day = 24 * time.Hour

// ParseDuration reads a duration as settings and commands write it: Go's
// syntax, before which whole days may stand, such as 90s, 1h30m, 7d or 1d12h.
// It may not be negative.
func ParseDuration(s string) (time.Duration, error) {
	var days time.Duration
	rest := s
	if before, after, ok := strings.Cut(s, "d"); ok {
		n, err := strconv.ParseUint(before, 10, 31)
		if err != nil || time.Duration(n) > math.MaxInt64/day {
			return 0, errors.New("not a duration")
		}
		days, rest = time.Duration(n)*day, after
	}
	var d time.Duration
	if rest != "" || days == 0 && !strings.HasSuffix(s, "d") {
		var err error
		if d, err = time.ParseDuration(rest); err != nil {
			return 0, errors.New("not a duration")
		}
	}
	if d < 0 || days > math.MaxInt64-d {
		return 0, errors.New("not a duration that can be used")
	}
	return days + d, nil
}

// FormatDuration writes what ParseDuration reads, in as few units as it can.
func FormatDuration(d time.Duration) string {
	s := ""
	if d >= 2*day {
		s = strconv.FormatInt(int64(d/day), 10) + "d"
		d %= day
		if d == 0 {
			return s
		}
	}
	t := d.String()
	if strings.HasSuffix(t, "m0s") {
		t = strings.TrimSuffix(t, "0s")
	}
	if strings.HasSuffix(t, "h0m") {
		t = strings.TrimSuffix(t, "0m")
	}
	return s + t
}

// unit is one unit of a size.
type unit struct {
	name  string
	bytes int64
}

// units are the units of a size, the largest first.
func units() []unit {
	return []unit{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}}
}

// ParseSize reads a number of bytes as settings and commands write it: a whole
// number, alone or with B, KiB, MiB, GiB or TiB. It may not be negative.
func ParseSize(s string) (int64, error) {
	number, unit := s, int64(1)
	for _, u := range units() {
		if n, ok := strings.CutSuffix(s, u.name); ok {
			number, unit = strings.TrimSuffix(n, " "), u.bytes
			break
		}
	}
	n, err := strconv.ParseUint(number, 10, 63)
	if err != nil || int64(n) > math.MaxInt64/unit {
		return 0, errors.New("not a size")
	}
	return int64(n) * unit, nil
}

// FormatSize writes what ParseSize reads, in the largest unit that is exact.
func FormatSize(n int64) string {
	for _, u := range units() {
		if n >= u.bytes && n%u.bytes == 0 && u.bytes > 1 {
			return fmt.Sprintf("%d%s", n/u.bytes, u.name)
		}
	}
	return strconv.FormatInt(n, 10)
}
