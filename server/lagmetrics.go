package server

import (
	"context"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/parley-im/parley/internal/broker"
)

// lagTime is how long lags are counted for one scrape.
const lagTime = time.Second

// lagMetrics are of durable subscriptions. There is none for the inboxes of
// devices, of which there may be a million.
type lagMetrics struct{ lag, omitted *prometheus.Desc }

func newLagMetrics() lagMetrics {
	return lagMetrics{
		prometheus.NewDesc("parley_durable_lag_messages", "Messages of a durable subscription that are stored and not acknowledged, counted up to 100,000.",
			[]string{"owner", "name", "topic"}, nil),
		prometheus.NewDesc("parley_durable_lags_omitted", "1 when there are more durable subscriptions than those whose lag is told.", nil, nil),
	}
}

func (m *lagMetrics) describe(to chan<- *prometheus.Desc) {
	to <- m.lag
	to <- m.omitted
}

func (m *lagMetrics) collect(b *broker.Broker, to chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), lagTime)
	defer cancel()
	known, more := b.Lags(ctx)
	for _, l := range known {
		labels := []string{l.Owner, l.Name, string(l.Topic)}
		for _, label := range labels {
			if !utf8.ValidString(label) { // no such name is accepted, but a label that is none would panic
				labels = nil
			}
		}
		if labels != nil {
			to <- prometheus.MustNewConstMetric(m.lag, prometheus.GaugeValue, float64(l.Messages), labels...)
		}
	}
	to <- prometheus.MustNewConstMetric(m.omitted, prometheus.GaugeValue, flag(more))
}
