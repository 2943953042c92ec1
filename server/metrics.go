package server

import (
	"runtime"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/parley-im/parley/internal/backend/pebble"
	"github.com/parley-im/parley/internal/backend/redis"
	"github.com/parley-im/parley/internal/broker"
	"github.com/parley-im/parley/internal/protocol/texto"
)

// What an operator asks, and the metrics that answer:
//
//	who is refused?        audit_events_total, audit_suppressed_total
//	is it well?            ready, open_to_network, plain_to_network, admin_open_to_network, panics_total, failed_messages_total, build_info
//	who is connected?      connections, sessions, subscriptions, sessions_closed_total, connections_refused_total
//	what is it doing?      received_messages_total = published_… + duplicate_… + conflicting_… + refused_… +
//	                       storage_full_… + quota_exceeded_… + failed_… + invalid_…; delivered_messages_total, replays_total
//	is it keeping up?      durable_lag_messages, commit_duration_seconds, commits_total, publish_queue_bytes of _limit_bytes,
//	                       refused_messages_total, slow_fallbacks_total, tail_bytes
//	what is about to fail? storage_full, storage_full_messages_total, disk_free_bytes, disk_reserve_bytes, store_disk_bytes, store_compaction_debt_bytes, store_l0_tables,
//	                       store_memtable_bytes, store_wal_bytes, process_open_fds of process_max_fds
//
// All are read from counters that exist anyway; nothing here is on a message's
// way.

// snapshot is everything that is read for one scrape.
type snapshot struct {
	server    *Server
	broker    broker.Stats
	store     pebble.Stats
	space     pebble.Space
	refusals  map[string]int64
	farewells map[string]int64
	conns     map[string]int
	texto     texto.Stats
	redis     redis.Stats
	// audited and suppressed are the audit log's counts, by kind.
	audited, suppressed map[string]int64
}

// metric is one value, or one for each value of a label, of a snapshot.
type metric struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
	read func(*snapshot) float64
	// by takes the place of read for a metric with a label.
	by func(*snapshot) map[string]float64
}

// collector turns snapshots into metrics.
type collector struct {
	server  *Server
	metrics []metric
	commit  *prometheus.Desc
	lag     lagMetrics
}

// register adds everything to a registry.
func (s *Server) register(registry *prometheus.Registry) {
	all := metrics()
	if _, known := s.store.Space(); known {
		all = append(all, diskMetrics()...)
	}
	registry.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		&collector{server: s, metrics: all, commit: prometheus.NewDesc(
			"parley_commit_duration_seconds", "Time to make one batch of messages durable.", nil, nil), lag: newLagMetrics()},
	)
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(to chan<- *prometheus.Desc) {
	for _, m := range c.metrics {
		to <- m.desc
	}
	to <- c.commit
	c.lag.describe(to)
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(to chan<- prometheus.Metric) {
	s := c.server
	now := &snapshot{server: s, broker: s.broker.Stats(), store: s.store.Stats(), conns: s.sessions.count(), texto: s.texto.Stats()}
	if s.redis != nil {
		now.redis = s.redis.Stats()
	}
	now.refusals, now.farewells = s.count.snapshot()
	now.audited, now.suppressed = s.access.audit.Counts()
	now.space, _ = s.store.Space()
	for _, m := range c.metrics {
		if m.by == nil {
			to <- prometheus.MustNewConstMetric(m.desc, m.kind, m.read(now))
			continue
		}
		for label, v := range m.by(now) {
			to <- prometheus.MustNewConstMetric(m.desc, m.kind, v, label)
		}
	}
	to <- c.commits(&now.broker)
	c.lag.collect(s.broker, to)
}

// commits is the histogram of commit times.
func (c *collector) commits(b *broker.Stats) prometheus.Metric {
	buckets := make(map[float64]uint64)
	var n uint64
	bounds := broker.CommitBounds()
	for i, bound := range bounds {
		n += uint64(b.CommitTimes[i])
		buckets[bound] = n
	}
	n += uint64(b.CommitTimes[len(bounds)])
	return prometheus.MustNewConstHistogram(c.commit, n, b.CommitTime.Seconds(), buckets)
}

func gauge(name, help string, read func(*snapshot) float64) metric {
	return metric{desc: prometheus.NewDesc("parley_"+name, help, nil, nil), kind: prometheus.GaugeValue, read: read}
}

func counter(name, help string, read func(*snapshot) float64) metric {
	return metric{desc: prometheus.NewDesc("parley_"+name, help, nil, nil), kind: prometheus.CounterValue, read: read}
}

// labelled is a metric with one label.
func labelled[T int | int64](kind prometheus.ValueType, name, help, label string, by func(*snapshot) map[string]T) metric {
	return metric{
		desc: prometheus.NewDesc("parley_"+name, help, []string{label}, nil), kind: kind,
		by: func(s *snapshot) map[string]float64 {
			values := make(map[string]float64)
			for k, v := range by(s) {
				values[k] = float64(v)
			}
			return values
		},
	}
}

func metrics() []metric {
	return slices.Concat(edgeMetrics(), brokerMetrics(), consumerMetrics(), storeMetrics(), textoMetrics())
}

func edgeMetrics() []metric {
	build := prometheus.Labels{"version": version, "go": runtime.Version()}
	return []metric{
		{
			desc: prometheus.NewDesc("parley_build_info", "Always 1.", nil, build),
			kind: prometheus.GaugeValue, read: func(*snapshot) float64 { return 1 },
		},
		gauge("ready", "1 while clients are served.", func(s *snapshot) float64 { return flag(s.server.ready.Load()) }),
		gauge("open_to_network", "1 when anybody on the network may use the server without authentication.",
			func(s *snapshot) float64 { return flag(s.server.cfg.HTTP.OpenToNetwork && s.server.access.open()) }),
		gauge("plain_to_network", "1 when credentials can be read on the way, unless a proxy has TLS.",
			func(s *snapshot) float64 { return flag(s.server.plainToNetwork()) }),
		labelled(prometheus.CounterValue, "audit_events_total", "Credentials that were accepted and refused, requests that were refused, and operators' deeds.", "kind",
			func(s *snapshot) map[string]int64 { return s.audited }),
		labelled(prometheus.CounterValue, "audit_suppressed_total", "Of them, those that were not logged, because there were too many.", "kind",
			func(s *snapshot) map[string]int64 { return s.suppressed }),
		gauge("admin_open_to_network", "1 when anybody on the network may look at everything and purge without authentication.",
			func(s *snapshot) float64 { return flag(s.server.cfg.HTTP.AdminOpen && s.server.admin != nil) }),
		labelled(prometheus.GaugeValue, "connections", "Open connections.", "protocol",
			func(s *snapshot) map[string]int { return s.conns }),
		labelled(prometheus.CounterValue, "sessions_closed_total", "Sessions that ended.", "reason",
			func(s *snapshot) map[string]int64 { return s.farewells }),
		labelled(prometheus.CounterValue, "connections_refused_total", "Connections that were not taken.", "reason",
			func(s *snapshot) map[string]int64 { return s.refusals }),
		counter("panics_total", "Panics, each of which cost one connection.",
			func(s *snapshot) float64 { return float64(s.server.count.panics.Load()) }),
	}
}

func brokerMetrics() []metric {
	return []metric{
		gauge("sessions", "Sessions.", func(s *snapshot) float64 { return float64(s.broker.Sessions) }),
		gauge("subscriptions", "Subscriptions.", func(s *snapshot) float64 { return float64(s.broker.Subscriptions) }),
		gauge("feeds", "Topics with live subscriptions.", func(s *snapshot) float64 { return float64(s.broker.Feeds) }),
		gauge("tail_bytes", "Newest messages kept in memory for live readers.", func(s *snapshot) float64 { return float64(s.broker.TailBytes) }),
		gauge("publish_queue_bytes", "Messages received and not yet durable.", func(s *snapshot) float64 { return float64(s.broker.QueueBytes) }),
		gauge("publish_queue_limit_bytes", "Bound of the publish queue.", func(s *snapshot) float64 { return float64(s.broker.QueueBound) }),
		counter("received_messages_total", "Messages that were to be published, whatever became of them.", func(s *snapshot) float64 { return float64(s.broker.Received) }),
		counter("invalid_messages_total", "Publishes that broke a rule; one for each request that could not be read.", func(s *snapshot) float64 { return float64(s.broker.Invalid) }),
		counter("published_messages_total", "Messages stored.", func(s *snapshot) float64 { return float64(s.broker.Published) }),
		counter("published_bytes_total", "Bytes of their bodies.", func(s *snapshot) float64 { return float64(s.broker.PublishedBytes) }),
		counter("duplicate_messages_total", "Publishes of what an earlier one had stored.", func(s *snapshot) float64 { return float64(s.broker.Duplicates) }),
		counter("conflicting_messages_total", "Publishes that used an id again for another message.", func(s *snapshot) float64 { return float64(s.broker.Conflicts) }),
		counter("refused_messages_total", "Publishes refused because the queue was full, the server was stopping, or there were too many.", func(s *snapshot) float64 { return float64(s.broker.Refused) }),
		counter("storage_full_messages_total", "Publishes refused because the disk is almost full.", func(s *snapshot) float64 { return float64(s.broker.NoRoom) }),
		counter("quota_exceeded_messages_total", "Messages refused because their sender has as much stored as they may.", func(s *snapshot) float64 { return float64(s.broker.OverQuota) }),
		counter("failed_messages_total", "Publishes that the store failed to take.", func(s *snapshot) float64 { return float64(s.broker.Failed) }),
		counter("delivered_messages_total", "Messages delivered, once for each subscription.", func(s *snapshot) float64 { return float64(s.broker.Delivered) }),
		counter("replays_total", "Replays of stored messages.", func(s *snapshot) float64 { return float64(s.broker.Replays) }),
		counter("slow_fallbacks_total", "Replays because a live reader had fallen behind the tail.", func(s *snapshot) float64 { return float64(s.broker.Fallbacks) }),
		counter("commits_total", "Batches of messages made durable.", func(s *snapshot) float64 { return float64(s.broker.Commits) }),
		counter("retention_trims_total", "Times that retention looked after a stream.", func(s *snapshot) float64 { return float64(s.broker.Trims) }),
	}
}

func storeMetrics() []metric {
	return []metric{
		gauge("quota_counting", "1 while what was stored before the first quota is still being counted, so that quotas hold too little.", func(s *snapshot) float64 {
			on, complete := s.server.broker.Metering()
			return flag(on && !complete)
		}),
		gauge("store_last_seq", "The highest seq that is durable.", func(s *snapshot) float64 { return float64(s.store.Last) }),
		gauge("store_disk_bytes", "All files of the store.", func(s *snapshot) float64 { return float64(s.store.DiskBytes) }),
		gauge("store_wal_bytes", "Its write-ahead log.", func(s *snapshot) float64 { return float64(s.store.WALBytes) }),
		gauge("store_memtable_bytes", "Memory for what is not flushed yet.", func(s *snapshot) float64 { return float64(s.store.MemTableBytes) }),
		gauge("store_compaction_debt_bytes", "Bytes that compactions have yet to rewrite.", func(s *snapshot) float64 { return float64(s.store.CompactionDebt) }),
		gauge("store_l0_tables", "Tables that no compaction has sorted yet.", func(s *snapshot) float64 { return float64(s.store.L0Files) }),
		gauge("store_dedup_keys", "Message ids remembered against repetition.", func(s *snapshot) float64 { return float64(s.store.DedupKeys) }),
		gauge("store_damaged_files", "Files that were found damaged when they were read.", func(s *snapshot) float64 { return float64(s.store.DamagedFiles) }),
		counter("store_sync_seconds_total", "Time spent waiting for the disk.", func(s *snapshot) float64 { return s.store.SyncTime.Seconds() }),
	}
}

// diskMetrics make sense for a store in files.
func diskMetrics() []metric {
	return []metric{
		gauge("storage_full", "1 while publishes are refused because the disk is almost full.", func(s *snapshot) float64 { return flag(s.space.Full) }),
		gauge("disk_free_bytes", "Free space where the store is.", func(s *snapshot) float64 { return float64(s.space.Free) }),
		gauge("disk_total_bytes", "All space where the store is.", func(s *snapshot) float64 { return float64(s.space.Total) }),
		gauge("disk_reserve_bytes", "Free space below which publishes are refused.", func(s *snapshot) float64 { return float64(s.space.Reserve) }),
		gauge("disk_ballast_bytes", "Space kept for emergencies; 0 while it is given up.", func(s *snapshot) float64 { return float64(s.space.Ballast) }),
	}
}

func flag(on bool) float64 {
	if on {
		return 1
	}
	return 0
}
