// Package backend holds the contracts of what Parley stands on: a [Log] of
// messages, a [KV] of small records and a [Bus] of signals between nodes. The
// packages below it implement them, one technology each; package backendtest
// is the suite that every implementation passes.
package backend

import (
	"context"
	"iter"
	"time"

	"github.com/parley-im/parley"
)

// Entry is one message to append. The log owns Message until Append returns and
// sets its Seq and Time.
type Entry struct {
	Message *parley.Message
	// Key makes the append idempotent: within the log's window a second entry
	// with the same key for the same stream is not stored again. It names the
	// producer and the producer's id for the message. Empty means always store.
	Key string
	// Along says that this entry, without a key, goes along with the last one
	// before it that does not: when that one is not stored, neither is this, and
	// its result has the same Duplicate and Err, and no Seq. The first of an
	// append stands for itself.
	Along bool
	// Quota bounds what the sender may have stored, this and what goes along with
	// it included; 0 is no bound. It counts for a Log that is a Meter and counts
	// already, and for the first of those that go along. What was stored before
	// under the same key is still answered as a duplicate.
	Quota int64
}

// Result says what became of one entry.
type Result struct {
	// Seq is the message's place: for a duplicate, that of the first.
	Seq parley.Seq
	// Duplicate reports that the message was stored by an earlier entry.
	Duplicate bool
	// Err wraps parley.ErrConflict when the key was used for another payload, and
	// is a *QuotaError when there is too much of the sender's; this entry was then
	// not stored.
	Err error
}

// Query selects messages of one stream. Seq bounds are exclusive.
type Query struct {
	Stream parley.Stream
	// Topic selects the messages that it covers; empty, or the stream's own
	// topic, selects all.
	Topic parley.Topic
	After parley.Seq
	// Before bounds from above; 0 means no bound.
	Before parley.Seq
	// Since skips messages stored before it; zero skips none.
	Since time.Time
	// Now is the time at which expiry is judged; zero means the present. Two
	// calls with the same Now and bounds agree on what has expired.
	Now time.Time
	// Params are the reader's: messages whose filters they do not satisfy are
	// skipped. Nil skips none.
	Params map[string]string
	// Limit bounds the number of messages; 0 means the log's own page size.
	// For Count, 0 means no bound.
	Limit int
	// MaxBytes ends a page after the message that reaches it (by
	// parley.Message.Size); 0 means the log's own page size. Count ignores it.
	MaxBytes int
	// Reverse reads from the newest down.
	Reverse bool
}

// Page is what one Read found.
type Page struct {
	// Messages in ascending order of Seq, or descending for a reverse query.
	// The caller owns the slice; the messages are shared and immutable.
	Messages []*parley.Message
	// Next continues the read: it is the After of the next forward query, or
	// the Before of the next reverse one. It has passed over what was skipped.
	Next parley.Seq
	// More reports whether there may be further messages within the query's
	// bounds; when false, the read came to the bound or the log's durable end.
	More bool
	// Floor is the stream's floor at the time of the read, as from Bounds.
	Floor parley.Seq
}

// Span is what Count found: how many messages, and the seqs of the lowest and
// the highest of them; both are 0 when there are none.
type Span struct {
	Count       int
	First, Last parley.Seq
}

// Retention says what a stream keeps. A zero field keeps everything.
type Retention struct {
	// Through drops all messages up to and including it.
	Through parley.Seq
	// Before drops messages stored earlier.
	Before time.Time
	// Messages keeps at most that many, the newest.
	Messages int
	// Bytes keeps at most that many, by parley.Message.Size, the newest.
	Bytes int64
}

// Log keeps streams of messages. All methods may be called concurrently, and do
// nothing but return its error when ctx has ended.
type Log interface {
	// Append stores all entries, or none where the backend can; where it cannot,
	// each is stored idempotently and a partial failure is an error that wraps
	// parley.ErrUnavailable. It returns once they are durable; concurrent calls
	// share an fsync. Entries may belong to several streams; within a stream
	// they keep their order. The results match the entries by index. The error is
	// ErrStorageFull, and nothing was stored, while there is too little room.
	Append(ctx context.Context, entries []Entry) ([]Result, error)
	// Read returns one page of what q selects, never beyond the durable end.
	// Expired messages are skipped.
	Read(ctx context.Context, q Query) (Page, error)
	// Count tells how many messages q selects, without reading their bodies
	// where it can. With Limit and Reverse it finds the newest that many.
	Count(ctx context.Context, q Query) (Span, error)
	// Bounds returns the stream's floor and its last seq. All up to the floor
	// was trimmed: a reader whose cursor is below it has a gap. Last is 0 for
	// a stream that never had a message and otherwise at least floor.
	Bounds(ctx context.Context, s parley.Stream) (floor, last parley.Seq, err error)
	// Trim drops the stream's oldest messages until r is met, and returns the
	// new floor.
	Trim(ctx context.Context, s parley.Stream, r Retention) (parley.Seq, error)
	// Streams yields every stream that holds messages, in order of name, from the
	// first that is not before from. What lies before costs nothing. It is not a
	// snapshot.
	Streams(ctx context.Context, from parley.Stream) iter.Seq2[parley.Stream, error]
}

// Record is one value of a KV.
type Record struct {
	Key   string
	Value []byte
	// Rev identifies this version of the record; for Put it is the version that
	// the caller replaces, 0 for a record that must not exist.
	Rev uint64
	// Expires is when the record becomes absent; zero means never.
	Expires time.Time
}

// KV keeps small records. An expired record reads as absent. Keys are not
// empty, at most 512 bytes, and hold no NUL. All methods may be called
// concurrently; what Put and Delete did is durable when they return.
type KV interface {
	// Get returns the record, or an error that wraps parley.ErrNotFound.
	Get(ctx context.Context, key string) (Record, error)
	// Put writes r if the stored record still has r.Rev, and returns the new
	// revision; otherwise the error wraps parley.ErrConflict. A new record is
	// refused with ErrStorageFull while there is too little room.
	Put(ctx context.Context, r Record) (uint64, error)
	// Delete removes the record if it still has rev; the error is as for Put,
	// or wraps parley.ErrNotFound.
	Delete(ctx context.Context, key string, rev uint64) error
	// Scan yields the records whose keys begin with prefix, in order of key.
	Scan(ctx context.Context, prefix string) iter.Seq2[Record, error]
}

// Seeker is a KV that can begin a scan in the middle. A KV without it is scanned
// from the beginning.
type Seeker interface {
	// ScanAfter is like Scan, and yields only records whose keys are above after.
	ScanAfter(ctx context.Context, prefix, after string) iter.Seq2[Record, error]
}

// Bus carries signals between nodes, at most once: a signal may be lost, and
// nothing but a delay may follow from that.
type Bus interface {
	// Publish sends payload to every subscriber of subject, this node's own
	// included. It does not wait for them.
	Publish(ctx context.Context, subject string, payload []byte) error
	// Subscribe calls fn with every signal on subject, one at a time, until ctx
	// ends; it returns when fn is registered. fn must not block for long: what
	// does not fit its buffer is dropped. It must not keep or change payload.
	Subscribe(ctx context.Context, subject string, fn func(payload []byte)) error
}
