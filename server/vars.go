package server

import (
	"encoding/json"
	"net/http"
	"runtime"
)

// varsPath is where Go programs have their variables, and where those who
// watched the Titan server look for them.
const varsPath = "/debug/vars"

// vars are the server's variables as JSON, under the names of the Titan server
// as far as there is such a thing here. The command line, which Go programs
// usually show there, may hold secrets and is left out.
func (s *Server) vars(w http.ResponseWriter, _ *http.Request) {
	conversations := 0
	for _, n := range s.sessions.count() {
		conversations += n
	}
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(map[string]any{ // that the reader has gone is nobody's concern
		"conns":     s.sessions.connections(), // open connections of clients
		"receivers": conversations,            // of them, those that are read from
		"requests":  s.broker.Stats().Waiting, // publishes that wait to be durable
		"memstats":  &memory,
	})
}
