//go:build unix

package main

import "syscall"

// keepPrivate takes every right of others from the files that this process makes
// from now on: the store's have the messages of everybody, and its directory may be
// one that others can open, such as a volume's.
func keepPrivate() { syscall.Umask(0o077) }
