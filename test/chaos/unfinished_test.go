package chaos_test

import (
	"io"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/parley-im/parley/server"
	"github.com/parley-im/parley/server/servertest"
)

// TestStopWithUnfinishedRequests (R14): a body that does not arrive, a backup
// that is being taken and clients that read nothing hold up neither the goodbye
// to everybody else nor the stop.
func TestStopWithUnfinishedRequests(t *testing.T) {
	t.Parallel()
	const drain = 4 * time.Second
	s := servertest.Start(t, servertest.Dir(t.TempDir()), func(c *server.Config) {
		c.Drain = drain
		c.HTTP.Admin = "127.0.0.1:0"
	})
	stall(t, s, 4)
	upload := connect(t, s)
	defer upload.Close()
	if _, err := io.WriteString(upload, "POST /v1/messages/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nx"); err != nil {
		t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.Admin+"/admin/backup?rate=1000", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	backup, err := http.DefaultClient.Do(request)
	if err != nil || backup.StatusCode != http.StatusOK {
		t.Fatalf("a backup: %+v, %v", backup, err)
	}
	defer backup.Body.Close()
	stream, err := tune(host(s), "/quiet", "", 0)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	idle := open(t, s, rpcPath)

	var waiting sync.WaitGroup
	var gone, said, heard, broken time.Time
	waiting.Go(func() {
		_, _ = io.ReadAll(upload)
		gone = time.Now()
	})
	waiting.Go(func() {
		if a, err := idle.hear(); err != nil || a.Method != "bye" {
			t.Errorf("an idle client hears %+v, %v", a, err)
		}
		said = time.Now()
	})
	waiting.Go(func() {
		for {
			e, err := stream.hear()
			if err != nil {
				t.Errorf("a listener hears %v", err)
			}
			if err != nil || e.kind == "bye" {
				heard = time.Now()
				return
			}
		}
	})
	waiting.Go(func() {
		if n, err := io.Copy(io.Discard, backup.Body); err == nil {
			t.Errorf("the backup ends well after %d bytes", n)
		}
		broken = time.Now()
	})
	began := time.Now()
	s.Stop() // it complains if the server did not stop cleanly
	took := time.Since(began)
	waiting.Wait()
	if took > drain {
		t.Errorf("stopping took %v, more than %v", took, drain)
	}
	if !said.Before(gone) || !heard.Before(gone) || !said.Before(broken) {
		t.Errorf("goodbye was said after %v and %v, and a body waited for until %v, a backup until %v",
			said.Sub(began), heard.Sub(began), gone.Sub(began), broken.Sub(began))
	}
	t.Logf("goodbye after %v and %v, the body given up after %v, the backup after %v, stopped after %v",
		said.Sub(began), heard.Sub(began), gone.Sub(began), broken.Sub(began), took)
}
