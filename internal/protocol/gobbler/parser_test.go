package gobbler_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/broker"
)

// received is a message as a deployed client understands it.
type received struct {
	Path              string
	ID                uint64
	User, Application string
	Filters           map[string]string
	Expires           *time.Time
	Time              int64
	Node              uint8
	Header, Body      string
}

// parse reads a frame in the way of the deployed Go client. It shares nothing
// with the codec.
func parse(frame string) (r received, err error) {
	parts := strings.SplitN(frame, "\n", 3)
	if len(parts) > 1 {
		r.Header = parts[1]
	}
	if len(parts) > 2 {
		r.Body = parts[2]
	}
	fields := strings.Split(parts[0], ",")
	if len(fields) != 8 {
		return r, fmt.Errorf("%d fields", len(fields))
	}
	if !strings.HasPrefix(fields[0], "/") {
		return r, errors.New("the path has no slash")
	}
	r.Path, r.User, r.Application = fields[0], fields[2], fields[3]
	if r.ID, err = strconv.ParseUint(fields[1], 10, 64); err != nil {
		return r, err
	}
	if fields[4] != "" {
		if err := json.Unmarshal([]byte(fields[4]), &r.Filters); err != nil {
			return r, err
		}
	}
	if fields[5] != "" {
		expires, err := time.Parse(time.RFC3339, fields[5])
		if err != nil {
			return r, err
		}
		r.Expires = &expires
	}
	if r.Time, err = strconv.ParseInt(fields[6], 10, 64); err != nil {
		return r, err
	}
	node, err := strconv.ParseUint(fields[7], 10, 8)
	r.Node = uint8(node)
	return r, err
}

// What the codec writes, a deployed client reads.
func TestRoundTrip(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	words := []string{"", "a", "user01", "é世", `"q"`, "x y", "%20", "{}", `{"a":"b"}`, "#", "!"}
	word := func() string { return words[random.IntN(len(words))] }
	for range 5_000 {
		m := &parley.Message{
			Topic:  parley.Topic("/t" + strings.NewReplacer(" ", "", "/", "").Replace(word())),
			Seq:    parley.Seq(random.Uint64N(uint64(parley.MaxSeq))),
			Time:   time.UnixMicro(random.Int64N(1 << 52)),
			Sender: parley.Identity{User: word(), Device: word()},
			Header: word(),
			Body:   []byte(word() + strings.Repeat("\n", random.IntN(3)) + word()),
		}
		want := received{
			Path: string(m.Topic), ID: uint64(m.Seq), User: m.Sender.User, Application: m.Sender.Device,
			Time: m.Time.Unix(), Header: m.Header, Body: string(m.Body),
		}
		if random.IntN(2) == 0 {
			m.Expires = time.UnixMicro(random.Int64N(1 << 52)).UTC()
			want.Expires = &m.Expires
		}
		if n := random.IntN(4); n > 0 {
			m.Filters = map[string]string{}
			for i := range n {
				m.Filters[strconv.Itoa(i)+word()] = word()
			}
			if n == 1 {
				want.Filters = m.Filters
			}
		}
		frames := encode(t, codec(), &broker.Messages{Batch: broker.NewBatch([]*parley.Message{m})})
		got, err := parse(frames[0])
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("%q: %v\ngot  %+v\nwant %+v", frames[0], err, got, want)
		}
	}
}
