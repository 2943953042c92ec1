//go:build !unix

package wire

import "errors"

// rawReads is false where sockets are not file descriptors: a connection then
// reads as any other net.Conn does. The Go SDK runs there.
const rawReads = false

func readSocket(uintptr, []byte) (n int, wait bool, err error) {
	return 0, false, errors.ErrUnsupported
}
