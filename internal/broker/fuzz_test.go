package broker_test

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/broker"
)

// FuzzRecord reads records of consumers as a damaged disk, or another program,
// would have left them: an error or a consumer that is written as it was read, and
// no more of it in memory than there is on disk.
func FuzzRecord(f *testing.F) {
	for _, v := range []string{
		"", "\x00", "\x01", "\x02\x00\x00\x00\x00", "\x01\x00\x05\x01\x00", "\x01\x01\x05\x01\x02\x01\x02\x00\x03\x05\x01",
		"\x01\x00\x05\x01\x01\x06\x02\x00", "\x01\x00\x05\x01\xff\xff\xff\xff\x0f", "\x01\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x01\x02\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x02\x00\x01\x02\x00",
		"\x01\x0e\x05\x01\x01\x06\x02\x00\x02\x01\x02\x07\x02\x05\x01", // owes, and knows of dead letters, of which two are being replayed
		"\x01\x04\x05\x01\x00\x00", "\x01\x08\x05\x01\x00\x02\x05\x00",
		"\x01\x00\x05\x01\x02\x05\x02\x00\xfd\xff\xff\xff\xff\xff\xff\xff\xff\x01\x02\x00", // the second is before the first
	} {
		f.Add([]byte(v))
	}
	id := broker.ConsumerID{Topic: "/orders", Owner: "shop", Name: "billing"}
	f.Fuzz(func(t *testing.T, value []byte) {
		again, pending, err := broker.ReadRecord(id, value)
		if err != nil {
			if !errors.Is(err, parley.ErrUnavailable) {
				t.Fatalf("%x: %v", value, err)
			}
			return
		}
		if 3*len(pending) > len(value) || !slices.IsSorted(pending) {
			t.Fatalf("%x has pending %d", value, pending)
		}
		last, n, err := broker.ReadRecord(id, again)
		if err != nil || !slices.Equal(n, pending) || !bytes.Equal(last, again) {
			t.Fatalf("%x was written as %x, and that is read as %x with pending %d, %v", value, again, last, n, err)
		}
	})
}

// FuzzConsumerKey: a key that is read is written alike.
func FuzzConsumerKey(f *testing.F) {
	for _, key := range []string{"consumer/shop/billing/orders", "consumer//x/a/b", "consumer/ann/$legacy/$inbox/ann", "consumer/", "consumer/a", "consumer/a/b"} {
		f.Add(key)
	}
	f.Fuzz(func(t *testing.T, key string) {
		if !strings.HasPrefix(key, "consumer/") {
			return
		}
		id, again, err := broker.ReadConsumerKey(key)
		if err != nil {
			if !errors.Is(err, parley.ErrInvalid) {
				t.Fatal(err)
			}
			return
		}
		if again != key || strings.Contains(id.Owner+id.Name, "/") || id.Topic[0] != '/' {
			t.Fatalf("%q is %+v, which is %q", key, id, again)
		}
	})
}
