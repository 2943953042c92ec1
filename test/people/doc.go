// Package people holds the tests of what a person with several devices gets, over
// the real program: whatever breaks in between, and whoever else tries.
package people
