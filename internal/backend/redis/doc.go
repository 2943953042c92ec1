// Package redis is the backend of nodes that talk to each other by way of Redis: a
// [Bus] of signals, and a [Client] for who speaks the language of other programs on
// channels of their own.
//
// Redis hands a message to who is listening and forgets it. What is published while
// a listener is not connected does not reach it; nothing here stores or repeats
// anything. Connections are made again by themselves, later and later up to a bound.
package redis
