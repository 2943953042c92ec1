// Package image tests what deploy/ ships without the engines that it is for: it
// does what the Dockerfile says, into a directory, and runs the result there as
// the image's user; and it lets systemd judge the unit.
package image
