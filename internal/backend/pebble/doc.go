// Package pebble keeps the [backend.Log] and the [backend.KV] in one Pebble
// database, on disk or on an in-memory filesystem.
//
// # How messages are laid out
//
// The messages that one commit brings to one stream are stored together, as a
// block under the key of the first:
//
//	b stream 00 first        -> a block of messages, seqs first, first+1, …
//	t stream 00 path 00 first -> which messages of that block path covers
//	f stream                 -> the stream's floor
//	i hash                   -> what an idempotency key stored
//	w seq                    -> the hashes that commit added, for their expiry
//	k key                    -> a record of the KV; once it has expired, a sweep removes it
//	u hash                   -> the bytes of what that user has stored, once they are counted
//	m name                   -> the format version, the last seq, how far usage is counted
//
// A block costs the database one key however many messages it holds, and
// compresses well. Only topics below a stream's root are indexed, one t key per
// block for the topic and each of its ancestors below the root. Docs/adr has
// the figures that led here.
//
// # What is durable, and when
//
// Append returns after the fsync of its commit. Pebble shows a write to readers
// before that, so every read stops at the durable watermark, the highest seq
// whose commit has returned. A file of our own, the mark, repeats the watermark
// once a second: a database that comes back with less than its mark has lost
// acknowledged messages, and is refused.
package pebble
