package bench

import (
	"bufio"
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// sample is what the server's metrics say about its process. A server without
// them, or one that does not answer, leaves ok false, and the report does
// without.
type sample struct {
	ok         bool
	cpuSeconds float64
	resident   float64 // bytes
	disk       float64 // bytes of the store's files
}

// inspect reads the server's metrics from their usual place.
func inspect(ctx context.Context, server string) sample {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(server, "/")+"/admin/metrics", http.NoBody)
	if err != nil {
		return sample{}
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return sample{}
	}
	defer func() { _ = resp.Body.Close() }()
	var s sample
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), " ")
		v, err := strconv.ParseFloat(value, 64)
		switch {
		case err != nil:
		case name == "process_cpu_seconds_total":
			s.cpuSeconds, s.ok = v, true
		case name == "process_resident_memory_bytes":
			s.resident = v
		case name == "parley_store_disk_bytes":
			s.disk = v
		}
	}
	return s
}

// server adds what n messages cost the server between two samples.
func (r *Report) server(before, after sample, n int64) {
	if !before.ok || !after.ok || n == 0 {
		return
	}
	cpu := after.cpuSeconds - before.cpuSeconds
	r.add("server CPU per message", "%.2f µs", cpu*1e6/float64(n))
	r.add("server memory", "%s", mebibytes(after.resident))
}

// perConnection adds what each of n connections costs the server. A server that
// was busy before hides it, because it has memory to spare.
func (r *Report) perConnection(before, after sample, n int) {
	if !before.ok || !after.ok {
		return
	}
	r.add("server memory", "%s", mebibytes(after.resident))
	if more := after.resident - before.resident; more > 0 {
		r.add("per connection", "%.1f KiB", more/1024/float64(n))
	}
}
