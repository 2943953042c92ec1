package main

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/parley-im/parley"
)

// TestHealthSaysWhatIsWrong gets the answer of a server that is not well.
func TestHealthSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = w.Write([]byte(`{"store":"it is slow","disk":"512MiB free of 99GiB"}`))
	}))
	defer s.Close()
	err := checkHealth(t.Context(), s.URL, "/")
	if want := "not well: disk: 512MiB free of 99GiB; store: it is slow"; err == nil || err.Error() != want {
		t.Errorf("it says %v, want %s", err, want)
	}
	if !errors.Is(err, parley.ErrUnavailable) {
		t.Errorf("%v is not unavailable", err)
	}
}

// TestNearServer finds the server that has the same environment.
func TestNearServer(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ url, listen, want string }{
		{"", "", defaultServer},
		{"https://chat.example", ":9000", "https://chat.example"},
		{"", ":9000", "http://127.0.0.1:9000"},
		{"", "0.0.0.0:9000", "http://127.0.0.1:9000"},
		{"", "[::]:9000", "http://127.0.0.1:9000"},
		{"", "[::1]:9000", "http://[::1]:9000"},
		{"", "localhost:9000", "http://localhost:9000"},
		{"", "10.1.2.3:80", "http://10.1.2.3:80"},
		{"", "nonsense", defaultServer},
	} {
		env := map[string]string{"PARLEY_URL": test.url, "PARLEY_HTTP": test.listen}
		got := nearServer(func(key string) (string, bool) { v, ok := env[key]; return v, ok })
		if got != test.want {
			t.Errorf("with PARLEY_URL=%q PARLEY_HTTP=%q it is at %s, want %s", test.url, test.listen, got, test.want)
		}
	}
}
