package pebble_test

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/parley-im/parley/internal/backend"
	"github.com/parley-im/parley/internal/backend/backendtest"
	"github.com/parley-im/parley/internal/backend/pebble"
)

func openMemory(t *testing.T) *pebble.DB {
	db := mustOpen(t, "store", pebble.Options{Memory: true})
	t.Cleanup(func() { mustClose(t, db) })
	return db
}

// reopener returns a function that opens the same store again each time.
func reopener(t *testing.T) func() *pebble.DB {
	fs := vfs.NewMem()
	var db *pebble.DB
	t.Cleanup(func() { mustClose(t, db) })
	return func() *pebble.DB {
		if db != nil {
			mustClose(t, db)
		}
		db = mustOpen(t, "store", pebble.Options{FS: fs})
		return db
	}
}

func TestLog(t *testing.T) {
	backendtest.Log(t, func(t *testing.T) backend.Log { return openMemory(t) })
}

func TestKV(t *testing.T) {
	backendtest.KV(t, func(t *testing.T) backend.KV { return openMemory(t) })
}

func TestLogReopen(t *testing.T) {
	backendtest.LogReopen(t, func(t *testing.T) func() backend.Log {
		open := reopener(t)
		return func() backend.Log { return open() }
	})
}

func TestKVReopen(t *testing.T) {
	backendtest.KVReopen(t, func(t *testing.T) func() backend.KV {
		open := reopener(t)
		return func() backend.KV { return open() }
	})
}
