package broker_test

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/account"
	"github.com/parley-im/parley/internal/backend"
	"github.com/parley-im/parley/internal/backend/pebble"
	"github.com/parley-im/parley/internal/broker"
)

// bounded is a broker whose users may have so much stored.
func bounded(t *testing.T, quota *atomic.Int64) *broker.Broker {
	t.Helper()
	db, err := pebble.Open("store", pebble.Options{FS: vfs.NewMem(), Payer: broker.Payer})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	b := start(t, db, broker.Config{KV: db, Quota: func(string) int64 { return quota.Load() }})
	if err := b.StartMetering(t.Context()); err != nil {
		t.Fatal(err)
	}
	return b
}

func usage(t *testing.T, b *broker.Broker, user string) int64 {
	t.Helper()
	used, _, known, err := b.Usage(t.Context(), user)
	if err != nil || !known {
		t.Fatalf("the usage of %s: known %v, %v", user, known, err)
	}
	return used
}

func overQuota(err error) bool {
	_, is := errors.AsType[*backend.QuotaError](err)
	return is && errors.Is(err, parley.ErrUnavailable)
}

// TestQuotaCountsToTheSender (S11): who floods uses up their own quota. Receipts and
// dead letters, which others bring about, count to nobody and are never refused.
func TestQuotaCountsToTheSender(t *testing.T) {
	t.Parallel()
	quota := new(atomic.Int64)
	quota.Store(1 << 30)
	b := bounded(t, quota)
	ann := signIn(t, b, "ann", "phone")
	l := letter("1", "x", "bob", "carol")
	l.Receipts = true
	for _, r := range ann.send(l)[0].Results {
		if r.Err != nil {
			t.Fatal(r.Err)
		}
	}
	want := int64(0)
	for _, name := range []string{"ann", "bob", "carol"} {
		for _, m := range inbox(t, b, name) {
			want += int64(m.Size())
		}
	}
	if got := usage(t, b, "ann"); got != want {
		t.Errorf("the letters and their copies count %d, want %d", got, want)
	}
	quota.Store(1)
	if err := b.Delivered(t.Context(), "bob", inbox(t, b, "bob")); err != nil {
		t.Errorf("a receipt of who may store nothing: %v", err)
	}
	if told := receipts(t, b, "ann"); len(told) != 1 {
		t.Errorf("ann was told %q", told)
	}
	if a, b := usage(t, b, "ann"), usage(t, b, "bob"); a != want || b != 0 {
		t.Errorf("with a receipt Ann uses %d, want %d, and Bob %d", a, want, b)
	}
	for topic, payer := range map[parley.Topic]string{
		"/a": "ann", "/a/$read": "ann", "/$inbox/bob/ann": "ann", "/$inbox/bob/ann/$asks": "ann",
		"/$inbox/ann/bob/$read": "", "/$inbox/ann/bob/$delivered": "", "/$dead/ann": "",
	} {
		if got := broker.Payer(&parley.Message{Topic: topic, Sender: parley.Identity{User: "ann"}}); got != payer {
			t.Errorf("%s counts to %q, want %q", topic, got, payer)
		}
	}
	balanced(t, b)
}

// TestQuotaRefuses: what is over the quota is refused for each recipient, and told to
// who watches; what was stored is answered as before; who only claims a name is not
// bounded; and the books balance.
func TestQuotaRefuses(t *testing.T) {
	t.Parallel()
	quota := new(atomic.Int64)
	b := bounded(t, quota)
	var told atomic.Int64
	watch := &broker.Watch{Over: func(who *account.Principal, err error) {
		if who.User != "ann" || !overQuota(err) {
			t.Errorf("told of %s: %v", who.User, err)
		}
		told.Add(1)
	}}
	ann := connect(t, b, broker.SessionConfig{Principal: user("ann", "phone"), Watch: watch})
	first := ann.send(letter("1", "x", "bob"))[0].Results[0]
	if first.Err != nil {
		t.Fatal(first.Err)
	}
	quota.Store(usage(t, b, "ann") + 100)
	for _, r := range ann.send(letter("2", "x", "bob", "carol"))[0].Results {
		if !overQuota(r.Err) {
			t.Errorf("over the quota: %+v", r)
		}
	}
	if again := ann.send(letter("1", "x", "bob"))[0].Results[0]; again.Err != nil || !again.Duplicate || again.Seq != first.Seq {
		t.Errorf("the first letter again: %+v, want a duplicate of %d", again, first.Seq)
	}
	if n := told.Load(); n != 2 {
		t.Errorf("told of %d, want the two recipients", n)
	}
	if s := b.Stats(); s.OverQuota != 4 {
		t.Errorf("%d messages are counted, want two and their copies", s.OverQuota)
	}
	for range 20 {
		if seq := publish(t, b, parley.Message{Topic: "/a", Body: make([]byte, 1000)}); seq == 0 {
			t.Error("who has no name is refused")
		}
	}
	open := connect(t, b, broker.SessionConfig{Identity: parley.Identity{User: "ann"}})
	if r := open.send(letter("3", "x", "bob"))[0].Results[0]; r.Err != nil {
		t.Errorf("who only claims to be Ann: %v", r.Err)
	}
	balanced(t, b)
}

// TestQuotaAndRetention: what retention removes makes room without anybody's help.
func TestQuotaAndRetention(t *testing.T) {
	t.Parallel()
	quota := new(atomic.Int64)
	quota.Store(4000)
	b := bounded(t, quota)
	ann := signIn(t, b, "ann", "phone")
	for i := 0; ; i++ {
		if i > 20 {
			t.Fatal("nothing is refused")
		}
		if r := ann.send(letter("", "x", "bob"))[0].Results[0]; r.Err != nil {
			break
		}
	}
	b.SetBounds(broker.Bounds{Age: time.Nanosecond}, broker.Bounds{})
	if err := b.SweepAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := usage(t, b, "ann"); n != 0 {
		t.Errorf("Ann uses %d when all is gone", n)
	}
	if r := ann.send(letter("", "x", "bob"))[0].Results[0]; r.Err != nil {
		t.Errorf("with room again: %v", r.Err)
	}
}
