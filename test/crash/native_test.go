package crash_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/test/oracle"
)

// producer publishes through the native protocol with ids that make a publish
// idempotent. After a crash it sends again all that was not acknowledged, and
// some that was.
type producer struct {
	name, id string
	ledger   *oracle.Ledger
	sent     int
	again    []int // numbers of publishes to send again, lowest first
	resent   int   // acknowledgements of such
}

// reply is an answer of the server.
type reply struct {
	ID     int
	Result struct {
		Seq       parley.Seq
		Duplicate bool
	}
	Error json.RawMessage
}

// run publishes until the server is gone.
func (p *producer) run(address string) error { return talk(address, "/v1/rpc", p.converse) }

func (p *producer) converse(c *conn) error {
	if c.send(fmt.Sprintf(`{"jsonrpc":"2.0","id":0,"method":"hello","params":{"version":1,"producer":%q}}`, p.id)) != nil {
		return nil
	}
	again := p.again
	for range 3 { // Some that were acknowledged, from the end of the last life.
		if n := p.sent - burst - 1 - 5*len(again); n > 0 {
			again = append(again, n)
		}
	}
	for {
		waiting := map[int]bool{}
		for range burst {
			n, old := p.sent, false
			if len(again) > 0 {
				n, old, again = again[0], true, again[1:]
			} else {
				p.sent++
			}
			waiting[n] = old
		}
		p.again = append(slices.Sorted(maps.Keys(waiting)), again...)
		for _, n := range slices.Sorted(maps.Keys(waiting)) {
			if p.publish(c, n) != nil {
				return nil
			}
		}
		if c.w.Flush() != nil {
			return nil
		}
		if alive, err := p.answers(c, waiting); err != nil || !alive {
			p.again = append(slices.Sorted(maps.Keys(waiting)), again...)
			return err
		}
	}
}

// publish sends publish n, the same each time.
func (p *producer) publish(c *conn, n int) error {
	id := fmt.Sprintf("%s-%d", p.name, n)
	return c.send(fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"publish","params":{"topic":%q,"id":%q,"text":%q}}`,
		n+1, topicOf(n), id, bodyOf(id)))
}

// answers takes the answers to what waits and removes it from there. It is not
// alive when the server has gone in between.
func (p *producer) answers(c *conn, waiting map[int]bool) (alive bool, err error) {
	for len(waiting) > 0 {
		frame, err := c.next()
		if err != nil {
			return false, nil
		}
		var r reply
		if err := json.Unmarshal([]byte(frame), &r); err != nil {
			return false, fmt.Errorf("frame %q: %w", frame, err)
		}
		n := r.ID - 1
		old, mine := waiting[n]
		switch {
		case r.ID == 0 && r.Error == nil: // The answer to hello.
			continue
		case !mine || r.Error != nil || r.Result.Seq == 0:
			return false, fmt.Errorf("unexpected frame %q", frame)
		case r.Result.Duplicate && !old:
			return false, fmt.Errorf("publish %d was sent once and is a duplicate: %q", n, frame)
		case old:
			p.resent++
		}
		delete(waiting, n)
		id := fmt.Sprintf("%s-%d", p.name, n)
		p.ledger.Ack(messageOf(id, topicOf(n), r.Result.Seq))
	}
	return true, nil
}
