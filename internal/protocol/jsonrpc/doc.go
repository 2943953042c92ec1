// Package jsonrpc reads and writes the envelopes of JSON-RPC 2.0, strictly.
//
// [Parse] turns one frame into calls. It never fails: what is wrong with a
// frame or with one call is in the call's Err, ready to be answered. A dialect
// looks at the method, decodes [Params] into a struct of its own, and answers by
// appending: a head from this package, its own members, a closing brace.
//
// Strict means that a text has one reading. Names are matched by case, a name
// twice in one object is an error, and so are invalid UTF-8, half of a surrogate
// pair, anything after the value, and members that nobody asked for. What a
// stranger may send is bounded before it costs memory: depth by [MaxDepth], the
// entries of a batch by [MaxBatch], an id by [MaxIDBytes].
//
// This is the one home of the JSON library.
package jsonrpc
