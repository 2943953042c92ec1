package broker

import (
	"cmp"
	"slices"

	"github.com/parley-im/parley"
)

// Subscriber is one live subscription, or one that will be live, as an operator
// sees it.
type Subscriber struct {
	Topic    parley.Topic
	Identity parley.Identity

	order uint64
}

// Subscribers lists the subscriptions to exactly topic in the order in which
// they began, at most the first most.
func (b *Broker) Subscribers(topic parley.Topic, most int) []Subscriber {
	b.feeds.mu.Lock()
	d := b.feeds.byTopic[topic]
	b.feeds.mu.Unlock()
	if d == nil {
		return nil
	}
	all := d.subscribers(nil)
	slices.SortFunc(all, older)
	return all[:min(len(all), most)]
}

// AllSubscribers lists the subscriptions to all topics, by topic and then in the
// order in which they began. When there are more than most, some are left out.
func (b *Broker) AllSubscribers(most int) []Subscriber {
	var all []Subscriber
	b.feeds.mu.Lock()
	for _, d := range b.feeds.byTopic {
		if all = d.subscribers(all); len(all) >= most {
			break
		}
	}
	b.feeds.mu.Unlock()
	slices.SortFunc(all, func(s, u Subscriber) int {
		return cmp.Or(cmp.Compare(s.Topic, u.Topic), older(s, u))
	})
	return all[:min(len(all), most)]
}

func older(s, u Subscriber) int { return cmp.Compare(s.order, u.order) }

// subscribers appends those of the feed, in no order.
func (d *feed) subscribers(dst []Subscriber) []Subscriber {
	d.mu.Lock()
	defer d.mu.Unlock()
	dst = slices.Grow(dst, len(d.subs))
	for _, u := range d.subs {
		dst = append(dst, Subscriber{Topic: u.Topic, Identity: u.session.Identity(), order: u.order})
	}
	return dst
}
