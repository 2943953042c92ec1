//go:build !unix

package main

// keepPrivate does nothing: files have the rights of their directory here.
func keepPrivate() {}
