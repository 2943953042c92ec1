package broker

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/backend"
)

// DeadLetters returns dead letters of an owner in the order of their deaths: at
// most limit, of those after the given seq; next continues, until it is 0.
func (b *Broker) DeadLetters(ctx context.Context, owner string, after parley.Seq, limit int) (letters []DeadLetter, next parley.Seq, err error) {
	removed, err := b.removedLetters(ctx, owner)
	if err != nil {
		return nil, 0, err
	}
	limit = min(max(limit, 1), b.cfg.Limits.HistoryMessages)
	for {
		page, err := b.log.Read(ctx, backend.Query{Stream: deadTopic(owner).Stream(), After: after, Limit: limit - len(letters), MaxBytes: 4 << 20})
		if err != nil {
			return nil, 0, err
		}
		for _, m := range page.Messages {
			if _, is := slices.BinarySearch(removed.Seqs, m.Seq); is {
				continue
			}
			letter, err := readEnvelope(m)
			if err != nil {
				return nil, 0, err
			}
			letters = append(letters, letter)
		}
		if after = page.Next; !page.More {
			return letters, 0, nil
		}
		if len(letters) >= limit {
			return letters, after, nil
		}
	}
}

// deadLetter finds one that was not removed.
func (b *Broker) deadLetter(ctx context.Context, owner string, seq parley.Seq) (DeadLetter, error) {
	removed, err := b.removedLetters(ctx, owner)
	if err != nil {
		return DeadLetter{}, err
	}
	page, err := b.log.Read(ctx, backend.Query{Stream: deadTopic(owner).Stream(), After: max(seq, 1) - 1, Before: seq + 1, Limit: 1})
	if err != nil {
		return DeadLetter{}, err
	}
	if _, is := slices.BinarySearch(removed.Seqs, seq); is || len(page.Messages) == 0 {
		return DeadLetter{}, fmt.Errorf("there is no dead letter %d: %w", seq, parley.ErrNotFound)
	}
	return readEnvelope(page.Messages[0])
}

// removedKeys is the prefix of the records of removed dead letters; the owner's
// name follows. A log drops only what is oldest, so what was removed before that
// is remembered: never more than there are dead letters.
const removedKeys = "dead/"

type removedRecord struct {
	Seqs []parley.Seq `json:"seqs"` // ascending
	rev  uint64
}

func removedKey(owner string) string { return removedKeys + cmp.Or(owner, nobodysLetters) }

func (b *Broker) removedLetters(ctx context.Context, owner string) (removedRecord, error) {
	var kept removedRecord
	if b.cfg.KV == nil {
		return kept, nil
	}
	r, err := b.cfg.KV.Get(ctx, removedKey(owner))
	if errors.Is(err, parley.ErrNotFound) {
		return kept, nil
	}
	if err == nil {
		err = json.Unmarshal(r.Value, &kept)
	}
	kept.rev = r.Rev
	return kept, err
}

// RemoveDeadLetters removes an owner's dead letters with these seqs.
func (b *Broker) RemoveDeadLetters(ctx context.Context, owner string, ranges ...SeqRange) error {
	for _, r := range ranges {
		if err := b.flushAll(ctx, owner, r); err != nil {
			return err
		}
	}
	return b.removeDeadLetters(ctx, owner, ranges...)
}

func (b *Broker) removeDeadLetters(ctx context.Context, owner string, ranges ...SeqRange) error {
	for tries := 0; ; tries++ {
		err := b.removeLetters(ctx, owner, ranges)
		if !errors.Is(err, parley.ErrConflict) || tries == 10 {
			return err
		}
	}
}

func (b *Broker) removeLetters(ctx context.Context, owner string, ranges []SeqRange) error {
	record, err := b.removedLetters(ctx, owner)
	if err != nil {
		return err
	}
	stream := deadTopic(owner).Stream()
	through, removed, err := b.sortLetters(ctx, stream, func(seq parley.Seq) bool {
		_, is := slices.BinarySearch(record.Seqs, seq)
		return is || slices.ContainsFunc(ranges, func(r SeqRange) bool { return r.First <= seq && seq <= r.Last })
	})
	if err != nil {
		return err
	}
	// First what is oldest: when only that is done, nothing comes back.
	if through > 0 {
		if _, err := b.log.Trim(ctx, stream, backend.Retention{Through: through}); err != nil {
			return err
		}
	}
	if b.cfg.KV == nil || record.rev == 0 && len(removed) == 0 {
		return nil
	}
	value, err := json.Marshal(removedRecord{Seqs: removed})
	if err != nil {
		return err
	}
	r := backend.Record{Key: removedKey(owner), Value: value, Rev: record.rev}
	if bounds, ok := b.personal.bounds(stream); ok && bounds.Age > 0 {
		// With a year to spare, in case that letters are kept for longer from now on.
		r.Expires = b.cfg.Clock.Now().Add(2*bounds.Age + 365*24*time.Hour)
	}
	_, err = b.cfg.KV.Put(ctx, r)
	return err
}

// sortLetters finds up to where a stream's messages are all gone, and which of
// those beyond are.
func (b *Broker) sortLetters(ctx context.Context, stream parley.Stream, gone func(parley.Seq) bool) (through parley.Seq, removed []parley.Seq, err error) {
	prefix := true
	q := backend.Query{Stream: stream, MaxBytes: 4 << 20}
	for {
		page, err := b.log.Read(ctx, q)
		if err != nil {
			return 0, nil, err
		}
		for _, m := range page.Messages {
			switch {
			case !gone(m.Seq):
				prefix = false
			case prefix:
				through = m.Seq
			default:
				removed = append(removed, m.Seq)
			}
		}
		if q.After = page.Next; !page.More {
			return through, removed, nil
		}
	}
}

// forgetRemoved drops what is remembered of removed dead letters.
func (b *Broker) forgetRemoved(ctx context.Context, owner string) error {
	record, err := b.removedLetters(ctx, owner)
	if err != nil || record.rev == 0 {
		return err
	}
	err = b.cfg.KV.Delete(ctx, removedKey(owner), record.rev)
	if errors.Is(err, parley.ErrNotFound) {
		return nil
	}
	return err
}
