package bench

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync/atomic"
	"text/tabwriter"
	"time"
)

// totals are what all workers have done so far.
type totals struct {
	published, delivered, connected atomic.Int64
}

// Row is one line of a report.
type Row struct{ Name, Value string }

// Report is what came out of a load.
type Report []Row

func (r *Report) add(name, format string, args ...any) {
	*r = append(*r, Row{name, fmt.Sprintf(format, args...)})
}

// rate adds a number of things and how many that is per second.
func (r *Report) rate(name string, n int64, d time.Duration) {
	r.add(name, "%s", thousands(n))
	r.add(name+" per second", "%s", thousands(int64(float64(n)/max(d.Seconds(), 1e-6))))
}

// latency adds the quantiles that people ask for.
func (r *Report) latency(name string, h *histogram) {
	if h.count == 0 {
		return
	}
	r.add(name+" p50", "%s", millis(h.quantile(0.5)))
	r.add(name+" p99", "%s", millis(h.quantile(0.99)))
	r.add(name+" max", "%s", millis(h.quantile(1)))
}

// Print writes the report as a table.
func (r *Report) Print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	for _, row := range *r {
		_, _ = fmt.Fprintf(t, "%s\t%s\t\n", row.Name, row.Value)
	}
	return t.Flush()
}

func millis(d time.Duration) string {
	return strconv.FormatFloat(float64(d.Microseconds())/1000, 'f', 3, 64) + " ms"
}

func mebibytes(n float64) string { return strconv.FormatFloat(n/(1<<20), 'f', 0, 64) + " MiB" }

// thousands writes n in groups of three digits.
func thousands(n int64) string {
	s := strconv.FormatInt(n, 10)
	var groups []string
	for len(s) > 3 {
		groups = append([]string{s[len(s)-3:]}, groups...)
		s = s[:len(s)-3]
	}
	return strings.Join(append([]string{s}, groups...), ",")
}

// watch writes one line a second to w until done is closed.
func (t *totals) watch(w io.Writer, done <-chan struct{}) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	start := time.Now()
	var published, delivered int64
	for {
		select {
		case <-done:
			return
		case <-tick.C:
		}
		p, d := t.published.Load(), t.delivered.Load()
		line := fmt.Sprintf("%4.0fs", time.Since(start).Seconds())
		if n := t.connected.Load(); n > 0 {
			line += "  " + thousands(n) + " connected"
		}
		if p > 0 {
			line += "  " + thousands(p-published) + " published/s"
		}
		if d > 0 {
			line += "  " + thousands(d-delivered) + " delivered/s"
		}
		published, delivered = p, d
		_, _ = fmt.Fprintln(w, line) // progress is worth no error
	}
}
