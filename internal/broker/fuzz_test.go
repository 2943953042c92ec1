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

// FuzzReadMarker reads read markers as a damaged disk would have left them: an
// error, or a marker that a user can have, which is written as it was read.
func FuzzReadMarker(f *testing.F) {
	for _, v := range []string{
		`{"read":0}`, `{"read":7,"told":3}`, `{"read":3,"told":7}`, `{"read":9007199254740993}`, `{"read":-1}`, `{"read":1.5}`, `{"read":"7"}`,
		`{"read":1,"READ":2}`, `null`, `[]`, `{`, "", "\x00", `{"read":7,"told":null}`,
	} {
		f.Add([]byte(v))
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		read, told, again, err := broker.ReadReadMarker(value)
		if err != nil {
			if !errors.Is(err, parley.ErrUnavailable) {
				t.Fatalf("%q: %v", value, err)
			}
			return
		}
		if read > parley.MaxSeq || told > read {
			t.Fatalf("%q is read %d, told %d", value, read, told)
		}
		if r, n, last, err := broker.ReadReadMarker(again); err != nil || r != read || n != told || !bytes.Equal(last, again) {
			t.Fatalf("%q was written as %q, and that is read as %d, %d, %v", value, again, r, n, err)
		}
	})
}

// FuzzDeadLetter opens dead letters as a damaged disk would have left them: an
// error, or a message of a topic that there can be, which is kept as it was read.
func FuzzDeadLetter(f *testing.F) {
	for _, v := range []string{
		`{"version":1,"topic":"/orders","owner":"shop","name":"billing","reason":"refused","attempts":3,"message":{"topic":"/orders/7","seq":9,"time":"2026-01-31T12:00:00.000001Z","id":"a","user":"ann","device":"d","header":"{}","body":"AAE=","filters":{"k":"v"}}}`,
		`{"version":1,"topic":"/$inbox/ann","name":"$legacy","message":{"topic":"/$inbox/ann/bob","expires":"2999-01-01T00:00:00Z"}}`,
		`{"version":2,"topic":"/a","message":{"topic":"/a"}}`, `{"version":1,"topic":"a","message":{"topic":"/a/../b"}}`,
		`{"version":1,"topic":"/a","attempts":-1,"message":{"topic":"/a"}}`, `{"version":1,"topic":"/a","message":{"topic":"/a","seq":18446744073709551615}}`,
		`{"version":1,"topic":"/a","message":null}`, `null`, "", "\xff",
	} {
		f.Add([]byte(v))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		l, again, err := broker.ReadDeadLetter(&parley.Message{Topic: "/$dead/shop", Seq: 5, Body: body})
		if err != nil {
			if !errors.Is(err, parley.ErrUnavailable) {
				t.Fatalf("%q: %v", body, err)
			}
			return
		}
		for _, topic := range []parley.Topic{l.Consumer.Topic, l.Message.Topic} {
			if _, err := parley.ParseTopic(string(topic)); err != nil {
				t.Fatalf("%q: %v", body, err)
			}
		}
		if l.Seq != 5 || l.Message.Seq > parley.MaxSeq || l.Attempts < 0 {
			t.Fatalf("%q is %+v", body, l)
		}
		if _, last, err := broker.ReadDeadLetter(&parley.Message{Seq: 5, Body: again}); err != nil || !bytes.Equal(last, again) {
			t.Fatalf("%q was kept as %q, and then as %q, %v", body, again, last, err)
		}
	})
}
