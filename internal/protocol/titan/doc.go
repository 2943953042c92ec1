// Package titan speaks with the clients of the Titan server and of its ancestor
// Devastator: JSON-RPC in which both sides ask, over WebSocket and over TLS with a
// length before each frame. Messages go from user to user; each is delivered as a
// request that the client answers, and delivered again, under the same id, until
// it does.
//
// docs/protocol/titan.md and docs/protocol/devastator.md say what is on the wire.
package titan
