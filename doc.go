// Package parley is the vocabulary of the Parley messaging server: what a
// message, a topic, a stream and a cursor are, who an identity is, and the six
// kinds of error.
//
// A [Message] is published to a [Topic], a rooted path such as /orders/eu/42.
// The topic's first segment names its [Stream], the unit of order, storage and
// retention; the log gives each message a [Seq], its place in that stream. A
// reader remembers a [Cursor], the last seq that it has, and reads on from
// there: replay and live delivery are the same read.
//
// The package imports the standard library only. Everything that does work
// lives elsewhere: package server runs a server, package client talks to one.
package parley
