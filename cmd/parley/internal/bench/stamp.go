package bench

import (
	"strconv"
	"time"
)

// stampBytes is the length of a stamp: microseconds since the load began, in
// decimal, enough for two hours and three quarters.
const stampBytes = 10

// clock counts microseconds since the load began.
type clock struct{ start time.Time }

func (c clock) now() int64 { return time.Since(c.start).Microseconds() }

// appendStamp appends µs, below 10^stampBytes, with leading zeros.
func appendStamp(dst []byte, µs int64) []byte {
	var digits [stampBytes]byte
	for i := len(digits) - 1; i >= 0; i-- {
		digits[i] = byte('0' + µs%10)
		µs /= 10
	}
	return append(dst, digits[:]...)
}

// stamp reads a stamp from the start of a body.
func stamp(body []byte) (int64, bool) {
	if len(body) < stampBytes {
		return 0, false
	}
	µs, err := strconv.ParseInt(string(body[:stampBytes]), 10, 64)
	return µs, err == nil
}
