package server_test

import (
	"io"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/client"
	"github.com/parley-im/parley/server"
	"github.com/parley-im/parley/server/servertest"
)

// stored is a server with a store on disk that holds a megabyte.
func stored(t *testing.T) *servertest.Server {
	s := servertest.Start(t, servertest.Dir(filepath.Join(t.TempDir(), "store")), func(c *server.Config) { c.Drain = 2 * time.Second })
	c, err := client.Dial(t.Context(), s.URL, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for range 4 {
		if _, err := c.Publish(t.Context(), parley.Message{Topic: "/big", Body: noise(200_000)}); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// noise does not compress.
func noise(n int) []byte {
	p := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{}).Read(p)
	return p
}

// A backup over HTTP is whole, for programs on this machine, and one at a time.
func TestBackup(t *testing.T) {
	t.Parallel()
	s := stored(t)
	resp, err := http.Get(s.URL + "/admin/backup")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if a, err := server.VerifyArchive(t.Context(), resp.Body); err != nil || a.Version != server.Version() || a.Last == 0 {
		t.Errorf("the backup: %+v, %v", a, err)
	}
	if got := request(t, http.MethodGet, s.URL+"/admin/backup", func(r *http.Request) { r.Header.Set("X-Forwarded-For", "192.0.2.1") }); got.status != http.StatusForbidden {
		t.Errorf("through a proxy: %d, want 403", got.status)
	}
	slow, err := http.Get(s.URL + "/admin/backup?rate=1000")
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Body.Close()
	if got := request(t, http.MethodGet, s.URL+"/admin/backup", nil); got.status != http.StatusServiceUnavailable || !strings.Contains(got.body, "another backup is running") {
		t.Errorf("a second backup: %+v, want 503", got)
	}
}

// A server that is told to stop breaks off a backup, and the client can tell.
func TestStopBreaksOffABackup(t *testing.T) {
	t.Parallel()
	s := stored(t)
	resp, err := http.Get(s.URL + "/admin/backup?rate=1000")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	began := time.Now()
	s.Stop()
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("the stop took %v", took)
	}
	if n, err := io.Copy(io.Discard, resp.Body); err == nil {
		t.Errorf("the answer ends well after %d bytes", n)
	}
}
