package broker_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/account"
	"github.com/parley-im/parley/internal/backend/pebble"
	"github.com/parley-im/parley/internal/broker"
)

// diskFS is a disk whose free space the test sets.
type diskFS struct {
	vfs.FS
	free *atomic.Uint64
}

const (
	diskBytes = 64 << 20
	fewBytes  = 3 << 20 // too little to store messages, and enough for what replaces records
)

func (fs diskFS) GetDiskUsage(string) (vfs.DiskUsage, error) {
	free := fs.free.Load()
	return vfs.DiskUsage{AvailBytes: free, TotalBytes: diskBytes, UsedBytes: diskBytes - free}, nil
}

// openDisk opens a store on a disk, and tells how much of it is free.
func openDisk(tb testing.TB) (*pebble.DB, *atomic.Uint64) {
	tb.Helper()
	fs := diskFS{vfs.NewMem(), new(atomic.Uint64)}
	fs.free.Store(diskBytes)
	db, err := pebble.Open("store", pebble.Options{FS: fs, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := db.Close(); err != nil {
			tb.Error(err)
		}
	})
	return db, fs.free
}

// runOn runs a broker over db until stop is called.
func runOn(tb testing.TB, db *pebble.DB) (b *broker.Broker, stop func()) {
	tb.Helper()
	b = broker.New(broker.Config{Log: db, KV: db})
	ctx, cancel := context.WithCancel(context.Background())
	var run sync.WaitGroup
	run.Go(func() {
		if err := b.Run(ctx); err != nil {
			tb.Error(err)
		}
	})
	return b, func() {
		cancel()
		run.Wait()
	}
}

// asking sends letters to Bob with these bodies, of which Ann wants receipts.
func asking(tb testing.TB, b *broker.Broker, bodies ...string) {
	tb.Helper()
	r := &broker.Send{}
	for _, body := range bodies {
		l := letter(body, body, "bob")
		l.Receipts = true
		r.Letters = append(r.Letters, l)
	}
	if err := b.Send(tb.Context(), user("ann", "phone"), r); err != nil {
		tb.Fatal(err)
	}
	for i := range r.Letters {
		if l := &r.Letters[i]; l.Err != nil || l.Results[0].Err != nil {
			tb.Fatal(l.Err, l.Results)
		}
	}
}

// told counts the receipts that Ann has.
func told(tb testing.TB, b *broker.Broker) (delivered, read int) {
	tb.Helper()
	for _, m := range inbox(tb, b, "ann") {
		switch broker.ReceiptOf(m) {
		case broker.Delivered:
			delivered++
		case broker.Read:
			read++
		case broker.NoReceipt:
		}
	}
	return delivered, read
}

// R11: while the disk is full, acknowledgements are confirmed and kept, across a
// restart too, though their receipts cannot be stored; these follow when there is
// room.
func TestAcknowledgeOnFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, free := openDisk(t)
		b, stop := runOn(t, db)
		asking(t, b, "a", "b", "c", "d")
		phone := device(t, b, "bob", "phone")
		u := phone.inbox(broker.Delivery{})
		_, seqs, _ := phone.deliveries(4)
		mark := func(b *broker.Broker, seq parley.Seq) {
			t.Helper()
			if m, err := b.MarkRead(t.Context(), user("bob", "phone"), seq); err != nil || m.Seq != seq {
				t.Errorf("marked %d: %+v, %v", seq, m, err)
			}
		}
		mark(b, seqs[0])
		time.Sleep(time.Second) // the device's record is made

		free.Store(fewBytes)
		phone.ack(u, seqs[0], seqs[1])
		mark(b, seqs[2])
		phone.Acknowledge(&broker.Ack{Sub: u.ID, Ranges: []broker.SeqRange{{First: seqs[2], Last: seqs[2]}}})
		time.Sleep(time.Minute)
		if delivered, read := told(t, b); delivered != 0 || read != 1 {
			t.Errorf("%d delivered and %d read on a full disk", delivered, read)
		}
		phone.Close()
		stop()

		b, stop = runOn(t, db)
		defer func() { stop() }()
		phone = device(t, b, "bob", "phone")
		u = phone.inbox(broker.Delivery{})
		if texts, _, _ := phone.deliveries(1); !slices.Equal(texts, []string{"d"}) {
			t.Errorf("after a restart %q", texts)
		}
		phone.ack(u, seqs[3])
		phone.quiet()

		free.Store(diskBytes)
		time.Sleep(time.Minute)
		mark(b, seqs[2])
		if delivered, read := told(t, b); delivered != 4 || read != 3 {
			t.Errorf("%d delivered and %d read when there is room", delivered, read)
		}
		phone.Close()
		balanced(t, b)
	})
}

// A device whose cursor was set back still owes receipts for what it has
// acknowledged, across a restart.
func TestSeekWithReceiptsDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, free := openDisk(t)
		b, stop := runOn(t, db)
		asking(t, b, "a", "b")
		phone := device(t, b, "bob", "phone")
		u := phone.inbox(broker.Delivery{})
		_, seqs, _ := phone.deliveries(2)
		time.Sleep(time.Second)
		free.Store(fewBytes)
		phone.ack(u, seqs...)
		id := broker.ConsumerID{Topic: "/$inbox/bob", Owner: "bob", Name: "phone"}
		if err := b.SeekConsumer(t.Context(), id, broker.Start{Kind: broker.AfterSeq}); err != nil {
			t.Fatal(err)
		}
		phone.Close()
		stop()
		free.Store(diskBytes)
		b, stop = runOn(t, db)
		defer stop()
		phone = device(t, b, "bob", "phone")
		phone.inbox(broker.Delivery{})
		phone.deliveries(2)
		time.Sleep(time.Second)
		if delivered, _ := told(t, b); delivered != 2 {
			t.Errorf("ann has %d receipts", delivered)
		}
		phone.Close()
	})
}

// A dead letter that cannot be stored is not confirmed, and gets in the way of no
// acknowledgement; the message is not lost.
func TestRejectOnFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, free := openDisk(t)
		b, stop := runOn(t, db)
		defer stop()
		for _, body := range []string{"a", "b"} {
			send(t, b, "bob", body)
		}
		phone := device(t, b, "bob", "phone")
		u := phone.inbox(broker.Delivery{})
		_, seqs, _ := phone.deliveries(2)
		time.Sleep(time.Second)
		free.Store(fewBytes)
		phone.Acknowledge(&broker.Ack{Ref: "r", Sub: u.ID, Dead: true, Ranges: []broker.SeqRange{{First: seqs[0], Last: seqs[0]}}})
		for {
			e, failed := phone.next().(*broker.Failed)
			if !failed {
				continue
			}
			if e.Ref != "r" || !errors.Is(e.Err, parley.ErrUnavailable) {
				t.Errorf("rejected: %+v", e)
			}
			break
		}
		phone.ack(u, seqs[1])
		free.Store(diskBytes)
		time.Sleep(time.Minute)
		letters, _, err := b.DeadLetters(t.Context(), "bob", 0, 10)
		if err != nil || len(letters) != 1 || letters[0].Message.Seq != seqs[0] {
			t.Errorf("dead letters %+v, %v", letters, err)
		}
		phone.Close()
	})
}

// What is acknowledged last before a stop is kept, though no receipt can be
// stored any more; that comes when the device does.
func TestAcknowledgeBeforeStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, _ := openDisk(t)
		b, stop := runOn(t, db)
		asking(t, b, "a", "b")
		phone := device(t, b, "bob", "phone")
		u := phone.inbox(broker.Delivery{})
		_, seqs, _ := phone.deliveries(2)
		phone.Acknowledge(&broker.Ack{Sub: u.ID, Ranges: []broker.SeqRange{{First: seqs[0], Last: seqs[0]}}})
		stop()
		phone.Close()

		b, stop = runOn(t, db)
		defer stop()
		phone = device(t, b, "bob", "phone")
		phone.inbox(broker.Delivery{})
		if texts, _, _ := phone.deliveries(1); !slices.Equal(texts, []string{"b"}) {
			t.Errorf("after a restart %q", texts)
		}
		time.Sleep(time.Second)
		if delivered, _ := told(t, b); delivered != 1 {
			t.Errorf("ann has %d receipts", delivered)
		}
		phone.Close()
	})
}

// Devices that are new while the disk is full, and cannot be remembered, do not
// gather in memory; each gets everything when it comes back.
func TestNewDevicesOnFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, free := openDisk(t)
		b, stop := runOn(t, db)
		defer stop()
		send(t, b, "bob", "a")
		free.Store(fewBytes)
		for i := range 20 {
			c := device(t, b, "bob", fmt.Sprint(i))
			u := c.inbox(broker.Delivery{})
			_, seqs, _ := c.deliveries(1)
			c.Acknowledge(&broker.Ack{Sub: u.ID, Ranges: []broker.SeqRange{{First: seqs[0], Last: seqs[0]}}})
			c.Close()
		}
		time.Sleep(5 * time.Second)
		if s := b.Stats().Consumers; s.Loaded != 0 || s.Pending != 0 {
			t.Errorf("there are still %+v", s)
		}
		free.Store(diskBytes)
		for range 2 {
			c := device(t, b, "bob", "0")
			u := c.inbox(broker.Delivery{})
			_, seqs, _ := c.deliveries(1)
			if c.ack(u, seqs...); seqs == nil {
				t.Error("nothing")
			}
			c.Close()
			send(t, b, "bob", "b")
		}
	})
}

// A session that was revoked acknowledges nothing more.
func TestAcknowledgeRevoked(t *testing.T) {
	b := startKV(t, broker.Config{})
	send(t, b, "bob", "a")
	phone := device(t, b, "bob", "phone")
	u := phone.inbox(broker.Delivery{})
	_, seqs, _ := phone.deliveries(1)
	if n := b.Revoke(func(p *account.Principal) bool { return p.User == "bob" }, "gone"); n != 1 {
		t.Fatalf("%d sessions revoked", n)
	}
	phone.Acknowledge(&broker.Ack{Sub: u.ID, Ranges: []broker.SeqRange{{First: seqs[0], Last: seqs[0]}}})
	phone.Close()
	again := device(t, b, "bob", "phone")
	again.inbox(broker.Delivery{})
	again.deliveries(1)
}
