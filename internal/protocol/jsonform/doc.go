// Package jsonform is how messages and errors look in JSON, wherever Parley
// speaks it: the native protocol, the HTTP API and its event streams. Reading is
// strict, by package jsonrpc; writing appends.
package jsonform
