package broker_test

import (
	"strings"
	"testing"

	"github.com/parley-im/parley/internal/broker"
)

// TestReadAll: a body whose length is named takes just that, because messages are
// kept as they were read; a wrong length changes nothing about the bytes.
func TestReadAll(t *testing.T) {
	t.Parallel()
	for _, size := range []int{0, 1, broker.FreeBytes - 1, broker.FreeBytes, broker.FreeBytes + 1, 3 * broker.FreeBytes, 100_000} {
		body := strings.Repeat("x", size)
		for _, promised := range []int64{int64(size), -1, 0, int64(size) / 2, 2 * int64(size)} {
			p, err := broker.NewRoom(1<<20).ReadAll(strings.NewReader(body), promised)
			if err != nil || string(p) != body {
				t.Fatalf("%d bytes of %d: got %d, %v", size, promised, len(p), err)
			}
			if promised == int64(size) && cap(p) > size+1 {
				t.Errorf("%d bytes take %d", size, cap(p))
			}
		}
	}
}
