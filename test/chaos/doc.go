// Package chaos holds the tests that treat a whole server badly, over its real
// port: readers that stall, clients that mean harm, more publishes than it can
// store, a stop in the middle of all, thousands of connections that come and
// go. It has no code of its own.
//
// The short forms run with all other tests; PARLEY_SOAK=1 runs the long ones.
package chaos
