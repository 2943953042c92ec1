package server_test

import (
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/client"
	"github.com/parley-im/parley/server"
	"github.com/parley-im/parley/server/servertest"
)

// TestWithoutGobbler: --no-ws removes its endpoint, and its path is free.
func TestWithoutGobbler(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, func(c *server.Config) {
		c.HTTP.Gobbler = false
		c.HTTP.Health = "/stream/health"
	})
	for path, want := range map[string]int{"/stream/": 404, "/stream": 404, "/stream/health": 200, "/v1/rpc": 400} {
		if got := request(t, http.MethodGet, s.URL+path, nil).status; got != want {
			t.Errorf("%s is answered %d, want %d", path, got, want)
		}
	}
}

// TestEndpointsAnywhere: the endpoints may be where an old deployment has them,
// and stay an operator's business there.
func TestEndpointsAnywhere(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, func(c *server.Config) {
		c.HTTP.Health, c.HTTP.Prometheus = "/health", "/metrics"
	})
	if got := request(t, http.MethodGet, s.URL+"/health", nil); got.status != http.StatusOK {
		t.Errorf("/health is answered %d %q", got.status, got.body)
	}
	if got := request(t, http.MethodGet, s.URL+"/metrics", nil); !strings.Contains(got.body, "parley_ready 1") {
		t.Errorf("/metrics is answered %d %q", got.status, got.body)
	}
	proxied := func(r *http.Request) { r.Header.Set("X-Forwarded-For", "192.0.2.1") }
	if got := request(t, http.MethodGet, s.URL+"/metrics", proxied); got.status != http.StatusForbidden {
		t.Errorf("/metrics for another machine is answered %d", got.status)
	}
	if got := request(t, http.MethodGet, s.URL+"/admin/healthcheck", nil); got.status != http.StatusNotFound {
		t.Errorf("the old path is answered %d", got.status)
	}
}

// TestStores opens every combination of stores, twice: what is in files is there
// again.
func TestStores(t *testing.T) {
	t.Parallel()
	for _, messages := range []string{server.StorageFile, server.StorageMemory} {
		for _, records := range []string{"", server.StorageFile, server.StorageMemory} {
			t.Run("ms "+messages+", kvs "+records, func(t *testing.T) {
				t.Parallel()
				storage := server.Storage{Kind: messages, Records: records, Path: filepath.Join(t.TempDir(), "data")}
				for start := range 2 {
					s := servertest.Start(t, func(c *server.Config) { c.Storage = storage })
					if got := request(t, http.MethodGet, s.URL+"/admin/healthcheck", nil); got.status != http.StatusOK {
						t.Errorf("health is %d %q", got.status, got.body)
					}
					if got := published(t, s); got != (messages == server.StorageFile && start == 1) {
						t.Errorf("start %d: earlier messages are there: %v", start, got)
					}
					s.Stop()
				}
				_, err := os.Stat(storage.Path)
				if files := err == nil; files != (messages == server.StorageFile || records == server.StorageFile) {
					t.Errorf("a directory is there: %v", files)
				}
			})
		}
	}
}

// published reports whether there are messages, and then publishes one.
func published(t *testing.T, s *servertest.Server) bool {
	t.Helper()
	c, err := client.Dial(t.Context(), s.URL, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	tally, err := c.Count(t.Context(), client.HistoryQuery{Topic: "/kept"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Publish(t.Context(), parley.Message{Topic: "/kept", Body: []byte("x")}); err != nil {
		t.Fatal(err)
	}
	return tally.Count > 0
}

// TestUnusableStores: each is refused by name, and the other store is released.
func TestUnusableStores(t *testing.T) {
	dir := t.TempDir()
	plain := filepath.Join(dir, "plain")
	if err := os.WriteFile(plain, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, path := range map[string]string{"a file": plain, "below a file": filepath.Join(plain, "data"), "where nobody may write": "/proc/parley-data"} {
		for _, kind := range []string{server.StorageFile, server.StorageMemory} {
			t.Run(name+", ms "+kind, func(t *testing.T) {
				cfg := server.Default()
				cfg.HTTP.Listen = "127.0.0.1:0"
				cfg.Storage = server.Storage{Kind: kind, Records: server.StorageFile, Path: path}
				cfg.Logger = slog.New(slog.DiscardHandler)
				if _, err := server.New(cfg); err == nil || !strings.Contains(err.Error(), strings.TrimSuffix(path, "/data")) {
					t.Errorf("New says %v, want an error with %s", err, path)
				}
			})
		}
	}
}

// TestProfiles: each kind is written when the server stops, to the working
// directory.
func TestProfiles(t *testing.T) {
	for _, kind := range []string{server.ProfileCPU, server.ProfileMemory, server.ProfileBlock} {
		t.Run(kind, func(t *testing.T) {
			t.Chdir(t.TempDir())
			servertest.Start(t, func(c *server.Config) { c.Profile = kind }).Stop()
			names, err := filepath.Glob("parley-" + kind + "-*.pprof")
			if err != nil || len(names) != 1 {
				t.Fatalf("profiles are %v, %v; want one", names, err)
			}
			text, err := os.ReadFile(names[0])
			if err != nil || len(text) < 2 || text[0] != 0x1f || text[1] != 0x8b {
				t.Errorf("the profile is no gzip of %d bytes, %v", len(text), err)
			}
		})
	}
}

func TestProfileWithoutADirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "gone")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	cfg := server.Default()
	cfg.HTTP.Listen = "127.0.0.1:0"
	cfg.Storage.Kind = server.StorageMemory
	cfg.Profile = server.ProfileMemory
	cfg.Logger = slog.New(slog.DiscardHandler)
	if _, err := server.New(cfg); err == nil || !strings.Contains(err.Error(), "working directory") {
		t.Errorf("New says %v, want that the profile cannot be written", err)
	}
}

// TestUnsafeIsVisible (S26): what is open to the network is so in the log, the
// metrics and the greeting.
func TestUnsafeIsVisible(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		edit            func(*server.Config)
		clients, admins float64
	}{
		"nothing":   {func(*server.Config) {}, 0, 0},
		"clients":   {func(c *server.Config) { c.HTTP.OpenToNetwork = true }, 1, 0},
		"operators": {func(c *server.Config) { c.HTTP.AdminOpen = true }, 0, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			book := new(logbook)
			cfg := server.Default()
			cfg.HTTP.Listen, cfg.HTTP.Admin = "127.0.0.1:0", "127.0.0.1:0"
			cfg.Storage.Kind = server.StorageMemory
			cfg.Logger = slog.New(slog.NewTextHandler(book, nil))
			tt.edit(&cfg)
			s := run(t, cfg)
			eventually(t, "the server is ready", func() bool {
				return request(t, http.MethodGet, s.URL()+"/admin/readycheck", nil).status == http.StatusOK
			})
			metrics := scrape(t, &servertest.Server{URL: s.AdminURL()})
			if a, b := metrics["parley_open_to_network"], metrics["parley_admin_open_to_network"]; a != tt.clients || b != tt.admins {
				t.Errorf("the metrics are %v and %v, want %v and %v", a, b, tt.clients, tt.admins)
			}
			log := book.take()
			for text, times := range map[string]float64{"may publish and read everything": tt.clients, "may look at everything and purge": tt.admins} {
				if n := strings.Count(s.Greeting(), text); n != int(times) {
					t.Errorf("the greeting says %q %d times, want %v:\n%s", text, n, times, s.Greeting())
				}
				if n := strings.Count(log, text); n != int(times) {
					t.Errorf("the log says %q %d times, want %v:\n%s", text, n, times, log)
				}
			}
		})
	}
}

func TestEnvironmentInTheLog(t *testing.T) {
	for name, tt := range map[string]struct {
		log      server.Log
		terminal bool
		want     string
	}{
		"JSON":     {server.Log{Format: server.LogAuto, Environment: "prod"}, false, `"environment":"prod"`},
		"text":     {server.Log{Format: server.LogText, Environment: "prod"}, true, `environment=prod`},
		"logstash": {server.Log{Format: server.LogLogstash}, false, `"environment":"dev"`},
	} {
		t.Run(name, func(t *testing.T) {
			var b strings.Builder
			tt.log.Logger(&b, tt.terminal).Info("hello")
			if !strings.Contains(b.String(), tt.want) {
				t.Errorf("the log is %q, want %q in it", b.String(), tt.want)
			}
			b.Reset()
			tt.log.Environment = ""
			tt.log.Logger(&b, tt.terminal).Info("hello")
			if strings.Contains(b.String(), "environment") != (tt.log.Format == server.LogLogstash) {
				t.Errorf("without an environment the log is %q", b.String())
			}
		})
	}
}
