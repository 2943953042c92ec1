package bench

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/wire"
)

// Publish measures how fast messages become durable: nobody subscribes.
func Publish(ctx context.Context, cfg Config) (Report, error) {
	return run(ctx, cfg, func(ctx context.Context, l *load) (Report, error) {
		all, err := l.publishers(ctx)
		if err != nil {
			return nil, err
		}
		before, start := inspect(ctx, cfg.URL), began()
		latency, refused, err := publish(ctx, all, start)
		if err != nil {
			return nil, err
		}
		elapsed := time.Since(start.start)
		var r Report
		r.published(l, refused, elapsed)
		r.latency("publish to ack", &latency)
		r.server(before, inspect(ctx, cfg.URL), l.totals.published.Load())
		return r, reasons(all)
	})
}

// reasons is an error when the server refused messages.
func reasons(all []*publisher) error {
	for _, p := range all {
		if p.reason != nil {
			return fmt.Errorf("not every message was stored: the server says %q: %w", p.reason, parley.ErrUnavailable)
		}
	}
	return nil
}

// published adds how much was published.
func (r *Report) published(l *load, refused int64, elapsed time.Duration) {
	n := l.totals.published.Load()
	r.add("seconds", "%.2f", elapsed.Seconds())
	r.rate("published", n-refused, elapsed)
	if refused > 0 {
		r.add("refused", "%s", thousands(refused))
	}
}

// Deliver measures messages on their way from publisher to subscribers, and
// checks that every one arrives, in order.
func Deliver(ctx context.Context, cfg Config) (Report, error) {
	return run(ctx, cfg, deliver)
}

func deliver(ctx context.Context, l *load) (Report, error) {
	cfg := &l.cfg
	subs := make([]*subscriber, cfg.Topics*cfg.Subscribers)
	err := each(ctx, len(subs), connects, func(_ context.Context, i int) error {
		topic := cfg.topic(i % cfg.Topics)
		conn, err := l.listen(ctx, cfg.Publishers+i, topic)
		subs[i] = &subscriber{conn: conn, topic: topic, totals: &l.totals}
		if cfg.Protocol == sseProtocol {
			subs[i].parse = parseEvent
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	all, err := l.publishers(ctx)
	if err != nil {
		return nil, err
	}
	before, start := inspect(ctx, cfg.URL), began()
	var acks histogram
	var refused int64
	// The publishers are one more task beside the subscribers.
	err = each(ctx, len(subs)+1, len(subs)+1, func(ctx context.Context, i int) (err error) {
		if i < len(subs) {
			subs[i].clock = start
			return subs[i].receive()
		}
		for _, p := range all {
			p.byTopic = make([]int64, cfg.Topics)
		}
		if acks, refused, err = publish(ctx, all, start); err != nil {
			return err
		}
		if err := reasons(all); err != nil {
			return err
		}
		return l.end(ctx, all)
	})
	if err != nil {
		return nil, err
	}
	elapsed := time.Since(start.start)
	var r Report
	r.published(l, refused, elapsed)
	r.rate("delivered", l.totals.delivered.Load(), elapsed)
	var latency histogram
	for _, s := range subs {
		latency.merge(&s.latency)
	}
	r.latency("publish to ack", &acks)
	r.latency("publish to delivery", &latency)
	r.server(before, inspect(ctx, cfg.URL), l.totals.published.Load())
	return r, nil
}

// end tells the subscribers of each topic how many messages there were.
func (l *load) end(ctx context.Context, all []*publisher) error {
	conn, err := l.dial(ctx, len(all))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(1000, "") }()
	for i := range l.cfg.Topics {
		var n int64
		for _, p := range all {
			n += p.byTopic[i]
		}
		command := fmt.Sprintf("> %s\n\n%s%d", l.cfg.topic(i), endMark, n)
		if err := await(conn, command, "#send"); err != nil {
			return err
		}
	}
	return nil
}

// Fetch measures how fast stored messages are replayed: all of every topic,
// once.
func Fetch(ctx context.Context, cfg Config) (Report, error) {
	return run(ctx, cfg, func(ctx context.Context, l *load) (Report, error) {
		conns := min(cfg.Connections, cfg.Topics)
		before, start := inspect(ctx, cfg.URL), began()
		err := each(ctx, conns, conns, func(ctx context.Context, i int) error {
			conn, err := l.dial(ctx, i)
			if err != nil {
				return err
			}
			defer func() { _ = conn.Close(1000, "") }()
			for t := i; t < cfg.Topics; t += conns {
				if err := l.fetch(conn, cfg.topic(t)); err != nil {
					return fmt.Errorf("%s: %w", cfg.topic(t), err)
				}
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		elapsed, n := time.Since(start.start), l.totals.delivered.Load()
		if n == 0 {
			return nil, fmt.Errorf("nothing is stored at %s to %s, \"parley bench publish\" does that: %w",
				cfg.topic(0), cfg.topic(cfg.Topics-1), parley.ErrNotFound)
		}
		var r Report
		r.add("seconds", "%.2f", elapsed.Seconds())
		r.rate("fetched", n, elapsed)
		r.server(before, inspect(ctx, cfg.URL), n)
		return r, nil
	})
}

// fetch replays one topic and checks that the announced number comes, in order.
func (l *load) fetch(conn wire.Conn, topic string) error {
	const all = " 0 2147483647"
	if err := conn.Write(conn.AppendFrame(nil, false, []byte("+ "+topic+all))); err != nil {
		return err
	}
	want, s := int64(-1), subscriber{topic: topic}
	for {
		frames, err := conn.Read()
		if err != nil {
			return err
		}
		before := s.got
		for _, f := range frames {
			switch {
			case bytes.HasPrefix(f.Payload, []byte("#fetch-start ")):
				_, err = fmt.Sscanf(string(f.Payload[len("#fetch-start ")+len(topic):]), "%d", &want)
			case bytes.HasPrefix(f.Payload, []byte("#fetch-end ")):
				l.totals.delivered.Add(s.got - before)
				if s.got != want {
					return fmt.Errorf("%d of %d messages came", s.got, want)
				}
				return nil
			default:
				var end bool
				if _, end, err = s.message(f.Payload, 0); end {
					s.got++ // here it is a message like any other
				}
			}
			if err != nil {
				return err
			}
		}
		l.totals.delivered.Add(s.got - before)
	}
}
