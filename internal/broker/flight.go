package broker

import (
	"slices"
	"sort"
	"time"

	"github.com/parley-im/parley"
)

// state is where a pending message is.
type state uint8

const (
	out       state = iota + 1 // delivered
	waiting                    // to be delivered again
	perishing                  // on its way to the dead letters
	done                       // no longer pending
)

// flight is a message that was delivered and is not done.
type flight struct {
	seq        parley.Seq
	due        time.Duration // when it must be acknowledged, or may be delivered again
	member     *member       // who it is out with; nil in a broadcast
	deliveries int
	failures   int // of them, those that count against MaxDeliver
	state      state
	asks       bool // the sender wants a receipt
}

// pending is a consumer's messages in flight and those that wait to be delivered
// again, in the order of their seqs.
type pending struct {
	list    []flight // the done ones are taken out now and then
	live    int      // those that are not done
	waiting int
}

// add adds a message beyond all others.
func (p *pending) add(f flight) {
	p.list = append(p.list, f)
	p.live++
	p.count(&f, 1)
}

// insert adds a message at the place that from found.
func (p *pending) insert(i int, f flight) {
	if i < len(p.list) && p.list[i].seq == f.seq {
		p.list[i] = f // it was done
	} else {
		p.list = slices.Insert(p.list, i, f)
	}
	p.live++
	p.count(&f, 1)
}

// from is the index of the first message at or above seq.
func (p *pending) from(seq parley.Seq) int {
	return sort.Search(len(p.list), func(i int) bool { return p.list[i].seq >= seq })
}

// find returns the message unless it is done. It is valid until something is
// added or removed.
func (p *pending) find(seq parley.Seq) *flight {
	i := p.from(seq)
	if i == len(p.list) || p.list[i].seq != seq || p.list[i].state == done {
		return nil
	}
	return &p.list[i]
}

// first is the lowest seq, or 0.
func (p *pending) first() parley.Seq {
	for i := range p.list {
		if p.list[i].state != done {
			return p.list[i].seq
		}
	}
	return 0
}

// move puts f into another state, in which it is pending too.
func (p *pending) move(f *flight, s state, m *member, due time.Duration) {
	p.count(f, -1)
	f.state, f.member, f.due = s, m, due
	p.count(f, 1)
}

// count keeps the counts: of members, what is out with them.
func (p *pending) count(f *flight, n int) {
	switch f.state {
	case out:
		if f.member != nil {
			f.member.out += n
		}
	case waiting:
		p.waiting += n
	case perishing, done:
	}
}

// remove makes f done.
func (p *pending) remove(f *flight) {
	p.count(f, -1)
	f.state, f.member = done, nil
	p.live--
}

// tidy takes out what is done, when that is most of it.
func (p *pending) tidy() {
	switch {
	case p.live == 0:
		clear(p.list)
		p.list = p.list[:0]
	case len(p.list) > 2*p.live+64:
		p.list = slices.DeleteFunc(p.list, func(f flight) bool { return f.state == done })
	}
}
