package main

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
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
	for _, test := range []struct{ environ, want string }{
		{"", defaultServer},
		{"PARLEY_URL=https://chat.example PARLEY_HTTP=:9000", "https://chat.example"},
		{"PARLEY_URL= PARLEY_HTTP=:9000", "http://127.0.0.1:9000"},
		{"PARLEY_HTTP=0.0.0.0:9000", "http://127.0.0.1:9000"},
		{"PARLEY_HTTP=[::]:9000", "http://127.0.0.1:9000"},
		{"PARLEY_HTTP=[::1]:9000", "http://[::1]:9000"},
		{"PARLEY_HTTP=localhost:9000", "http://localhost:9000"},
		{"PARLEY_HTTP=10.1.2.3:80", "http://10.1.2.3:80"},
		{"PARLEY_HTTP=nonsense", defaultServer},
		{"PARLEY_HTTP= PARLEY_ADMIN_LISTEN=:9090", "http://127.0.0.1:9090"},
		{"PARLEY_HTTP=:80 PARLEY_ADMIN_LISTEN=:9090", "http://127.0.0.1:80"},
	} {
		env := make(map[string]string)
		for pair := range strings.FieldsSeq(test.environ) {
			key, value, _ := strings.Cut(pair, "=")
			env[key] = value
		}
		got := nearServer(func(key string) (string, bool) { v, ok := env[key]; return v, ok })
		if got != test.want {
			t.Errorf("with %q it is at %s, want %s", test.environ, got, test.want)
		}
	}
}
