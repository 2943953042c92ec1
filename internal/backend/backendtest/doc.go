// Package backendtest holds what every backend must do, as tests: one suite for
// each contract of package backend. A backend's own test is a line a suite:
//
//	func TestLog(t *testing.T) {
//		backendtest.Log(t, func(t *testing.T) backend.Log { return open(t) })
//	}
//
// The log suites compare the log under test with a plain model of it after
// every step. Random tests print the seed that repeats them; set it in
// PARLEY_TEST_SEED.
package backendtest
