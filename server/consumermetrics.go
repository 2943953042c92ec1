package server

// consumerMetrics are of what is acknowledged: inboxes and durable subscriptions.
// When nothing moves, taken + resumed is the sum of acked, dead, expired, dropped,
// suspended and pending.
func consumerMetrics() []metric {
	return []metric{
		gauge("consumers", "Devices and durable subscriptions in use, or with something to save.", func(s *snapshot) float64 { return float64(s.broker.Consumers.Loaded) }),
		gauge("consumer_members", "Subscriptions by them.", func(s *snapshot) float64 { return float64(s.broker.Consumers.Members) }),
		gauge("consumer_pending_messages", "Messages delivered to them and not acknowledged.", func(s *snapshot) float64 { return float64(s.broker.Consumers.Pending) }),
		counter("consumer_taken_messages_total", "Messages delivered to a consumer for the first time.", func(s *snapshot) float64 { return float64(s.broker.Consumers.Taken) }),
		counter("consumer_resumed_messages_total", "Messages that were pending when a consumer was loaded, or dead and replayed.", func(s *snapshot) float64 { return float64(s.broker.Consumers.Resumed) }),
		counter("consumer_acked_messages_total", "Messages acknowledged.", func(s *snapshot) float64 { return float64(s.broker.Consumers.Acked) }),
		counter("consumer_dead_messages_total", "Messages that became dead letters.", func(s *snapshot) float64 { return float64(s.broker.Consumers.Dead) }),
		counter("consumer_expired_messages_total", "Messages trimmed, or past their time, before they could be delivered again.", func(s *snapshot) float64 { return float64(s.broker.Consumers.Expired) }),
		counter("consumer_missed_messages_total", "Messages past their time before they could be delivered at all.", func(s *snapshot) float64 { return float64(s.broker.Consumers.Missed) }),
		counter("consumer_dropped_messages_total", "Messages pending when a consumer was deleted or its cursor set.", func(s *snapshot) float64 { return float64(s.broker.Consumers.Dropped) }),
		counter("consumer_suspended_messages_total", "Messages pending when a consumer was put away, because nobody uses it.", func(s *snapshot) float64 { return float64(s.broker.Consumers.Suspended) }),
		counter("consumer_redelivered_messages_total", "Deliveries beyond the first.", func(s *snapshot) float64 { return float64(s.broker.Consumers.Redelivered) }),
		counter("consumer_late_messages_total", "Deliveries that were not acknowledged in time.", func(s *snapshot) float64 { return float64(s.broker.Consumers.Late) }),
		counter("consumer_refused_messages_total", "Deliveries that were refused for a while.", func(s *snapshot) float64 { return float64(s.broker.Consumers.Naks) }),
	}
}
