//go:build linux || darwin

package server

import (
	"fmt"
	"syscall"
)

// diskOf measures the file system that dir is on. Free is what a program
// without privileges may use.
func diskOf(dir string) (disk, error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return disk{}, fmt.Errorf("cannot measure the disk: %w", err)
	}
	block := uint64(st.Bsize)
	return disk{free: int64(st.Bavail * block), total: int64(st.Blocks * block)}, nil
}
