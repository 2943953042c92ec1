package backendtest

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/backend"
)

func TestReferenceKV(t *testing.T) {
	fault := os.Getenv(faultVar)
	open := func() *referenceKV { return &referenceKV{fault: fault, records: map[string]backend.Record{}} }
	KV(t, func(*testing.T) backend.KV { return open() })
	KVReopen(t, func(*testing.T) func() backend.KV {
		kv := open()
		return func() backend.KV { return kv }
	})
}

// referenceKV is the plainest KV, but for its fault.
type referenceKV struct {
	fault string

	mu      sync.Mutex
	rev     uint64
	records map[string]backend.Record
}

func (k *referenceKV) Get(ctx context.Context, key string) (backend.Record, error) {
	if err := ctx.Err(); err != nil {
		return backend.Record{}, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.get(key)
}

func (k *referenceKV) get(key string) (backend.Record, error) {
	r, ok := k.records[key]
	expired := !r.Expires.IsZero() && !r.Expires.After(time.Now()) && k.fault != "serves the expired"
	if !ok || expired {
		return backend.Record{}, fmt.Errorf("key %q: %w", key, parley.ErrNotFound)
	}
	if k.fault != "hands out its own bytes" {
		r.Value = slices.Clone(r.Value)
	}
	return r, nil
}

func (k *referenceKV) Put(ctx context.Context, r backend.Record) (uint64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	bad := r.Key == "" || len(r.Key) > 512 || strings.Contains(r.Key, "\x00")
	if bad && k.fault != "takes any key" {
		return 0, fmt.Errorf("key %q: %w", r.Key, parley.ErrInvalid)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	old, err := k.get(r.Key)
	if err != nil && !errors.Is(err, parley.ErrNotFound) {
		return 0, err
	}
	if old.Rev != r.Rev && k.fault != "overwrites any revision" {
		return 0, fmt.Errorf("key %q: %w", r.Key, parley.ErrConflict)
	}
	k.rev++
	r.Rev, r.Value = k.rev, slices.Clone(r.Value)
	if k.fault == "begins revisions anew" {
		r.Rev = old.Rev + 1
	}
	k.records[r.Key] = r
	return r.Rev, nil
}

func (k *referenceKV) Delete(ctx context.Context, key string, rev uint64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	old, err := k.get(key)
	if err != nil {
		return err
	}
	if old.Rev != rev && k.fault != "deletes any revision" {
		return fmt.Errorf("key %q: %w", key, parley.ErrConflict)
	}
	delete(k.records, key)
	return nil
}

func (k *referenceKV) Scan(ctx context.Context, prefix string) iter.Seq2[backend.Record, error] {
	return func(yield func(backend.Record, error) bool) {
		if err := ctx.Err(); err != nil {
			yield(backend.Record{}, err)
			return
		}
		k.mu.Lock()
		keys := slices.Sorted(maps.Keys(k.records))
		k.mu.Unlock()
		switch k.fault {
		case "scans backwards":
			slices.Reverse(keys)
		case "scans from the prefix on":
			keys = slices.DeleteFunc(keys, func(key string) bool { return key < prefix })
			prefix = ""
		}
		for _, key := range keys {
			r, err := k.Get(ctx, key)
			if err == nil && strings.HasPrefix(key, prefix) && !yield(r, nil) {
				return
			}
		}
	}
}
