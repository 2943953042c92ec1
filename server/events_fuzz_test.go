package server_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/parley-im/parley/server/servertest"
)

// FuzzEventStream (S9): whatever an event stream is asked for with, the answer is a
// stream, or says what is wrong with the request, and is no fault of the server.
// HEAD goes the way of GET up to where the stream begins.
func FuzzEventStream(f *testing.F) {
	const accept = "text/event-stream"
	for _, query := range []string{"", "after=1", "since=1h", "last=5&replay_only=true&max=3", "lastEventId=7", "a;b", "after=1&after=2", "access_token=x", "%zz", "last=-1"} {
		f.Add("a/b", query, accept, "", "")
		f.Add("$inbox/ann", query, accept, "7", "Bearer x")
	}
	for _, accept := range []string{"", "*/*", "text/*;q=0", "text/event-stream;q=0.0001", "text/event-stream;q=NaN, */*;q=1e400", ";", ",,", "text/event-stream; q=\"", "TEXT/Event-Stream"} {
		f.Add("a", "", accept, "9007199254740993", "Basic Og==")
	}
	f.Add("%2e%2e/%00", "", accept, "18446744073709551616", "bearer")
	s := servertest.Start(f)
	f.Fuzz(func(t *testing.T, topic, query, accept, id, credential string) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodHead, s.URL+"/v1/subscribe/", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		r.URL.Path += topic
		r.URL.RawQuery = query
		for name, value := range map[string]string{"Accept": accept, "Last-Event-ID": id, "Authorization": credential} {
			if value != "" {
				r.Header.Set(name, value)
			}
		}
		got, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			if strings.Contains(err.Error(), "EOF") || strings.Contains(err.Error(), "reset") {
				t.Fatalf("%s: %v", r.URL, err)
			}
			return // nothing that a client can say in HTTP
		}
		_ = got.Body.Close()
		switch kind := got.Header.Get("Content-Type"); {
		case got.StatusCode >= http.StatusInternalServerError, got.StatusCode == http.StatusOK && kind != "text/event-stream":
			t.Errorf("%s is answered %s of %s", r.URL, got.Status, kind)
		}
	})
}
