package server

import (
	"encoding/json"
	"net/http"
	"runtime"
)

// oldMetrics are the metrics as one flat object, under the Gobbler server's names
// as far as there is such a thing here. The command line, which that server
// showed there too, may hold secrets and is left out.
func (s *Server) oldMetrics(w http.ResponseWriter, _ *http.Request) {
	b := s.broker.Stats()
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(map[string]any{ // that the reader has gone is nobody's concern
		"router.current_routes":                  b.Feeds, // topics that somebody is subscribed to
		"router.current_subscriptions":           b.Subscriptions,
		"router.total_subscription_attempts":     b.Subscribed,
		"router.total_subscriptions":             b.Subscribed,
		"router.total_unsubscription_attempts":   b.Subscribed - b.Subscriptions,
		"router.total_unsubscriptions":           b.Subscribed - b.Subscriptions,
		"router.total_messages_incoming":         b.Received,
		"router.total_messages_routed":           b.Published,
		"router.total_messages_bytes_incoming":   b.PublishedBytes, // those of refused messages are not counted
		"router.total_messages_bytes_stored":     b.PublishedBytes,
		"router.total_overloaded_handle_channel": b.Refused,
		"router.total_errors_message_store":      b.Failed,
		"num_goroutines":                         runtime.NumGoroutine(),
		"memstats":                               &memory,
	})
}
