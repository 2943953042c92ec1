// Package limit bounds how often something may happen, by who does it: a [Rate]
// for each key of a [Table]. A table has a fixed size, whatever keys strangers
// make up, and goes by the monotonic clock.
package limit
