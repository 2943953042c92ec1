//go:build unix

package wire

import (
	"errors"
	"syscall"
)

// rawReads says that readSocket works here.
const rawReads = true

// readSocket reads from a non-blocking socket. wait says that nothing has
// arrived.
func readSocket(fd uintptr, p []byte) (n int, wait bool, err error) {
	for {
		n, err = syscall.Read(int(fd), p)
		switch {
		case err == nil:
			return n, false, nil
		case errors.Is(err, syscall.EINTR):
		default:
			return 0, errors.Is(err, syscall.EAGAIN), err
		}
	}
}
