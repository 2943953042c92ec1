//go:build race

package wire_test

// racing: the race detector makes sync.Pool forget at random.
const racing = true
