// Package crash holds the test that kills the real server under load and
// demands that it kept its promises. It has no code of its own.
package crash
