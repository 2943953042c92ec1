// Package protocol is the one conversation that all client protocols share. A
// protocol is a [Codec]: a pair of functions that translate its frames into
// requests, and events into its frames. [Serve] does the rest.
package protocol
