package server

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/parley-im/parley/internal/broker"
)

const (
	// lagInterval is for how long lags are believed, and lagTime how long counting
	// them may take.
	lagInterval = 15 * time.Second
	lagTime     = 2 * time.Second
	// maxLags bounds how many durable subscriptions are shown, and maxLag how far
	// each is counted.
	maxLags = 100
	maxLag  = 10_000
)

// lags are how far durable subscriptions are behind, which takes a count of each,
// not more often than it is worth.
type lags struct {
	mu    sync.Mutex // guards what follows; one at a time counts
	taken time.Time
	found []broker.Lag
}

// count is what there is to show; what was there before when the store does not
// answer in time.
func (l *lags) count(b *broker.Broker) []broker.Lag {
	l.mu.Lock()
	defer l.mu.Unlock()
	if time.Since(l.taken) < lagInterval {
		return l.found
	}
	ctx, cancel := context.WithTimeout(context.Background(), lagTime)
	defer cancel()
	l.taken = time.Now() // also when it fails: that costs as much
	if found, err := b.Lags(ctx, maxLags, maxLag); err == nil {
		l.found = found
	}
	return l.found
}

// lagDesc describes the metric.
func lagDesc() *prometheus.Desc {
	return prometheus.NewDesc("parley_durable_lag_messages", "Stored messages that a durable subscription has not dealt with, counted up to 10,000.",
		[]string{"owner", "name", "topic"}, nil)
}

func (c *collector) collectLags(to chan<- prometheus.Metric) {
	for _, l := range c.server.lags.count(c.server.broker) {
		to <- prometheus.MustNewConstMetric(c.lag, prometheus.GaugeValue, float64(l.Messages),
			l.Owner, strings.ToValidUTF8(l.Name, "\ufffd"), string(l.Topic))
	}
}
