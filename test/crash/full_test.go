package crash_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/test/oracle"
)

// TestDiskFull fills a file system of 24 MB, first by publishing and then by a
// file of somebody else. Publishes are refused as storage_full, what was
// acknowledged can be read, purging works and gives its room back, a server that
// was killed starts, and publishes are accepted again by themselves (R11).
func TestDiskFull(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes ten seconds")
	}
	dir := smallDisk(t, 24<<20)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, seed))
	f := &filler{world: newWorld(build(t), filepath.Join(dir, "store"), r)}
	server, address := f.start(t.Context(), t)
	defer func() { server.kill() }()

	// By publishing, up to the reserve.
	f.untilFull(t, address)
	f.check(t, address)
	f.state(t, address, http.StatusServiceUnavailable, 1)
	began := time.Now()
	f.purge(t, address)
	f.untilStored(t, address)
	t.Logf("accepted again %v after the purge", time.Since(began).Round(time.Millisecond))
	f.state(t, address, http.StatusOK, 0)

	// By somebody else, up to the last byte, and through a kill -9.
	f.untilFull(t, address)
	stranger := filepath.Join(dir, "stranger")
	t.Logf("a file of %d bytes takes the rest", fill(t, stranger))
	f.refused(t, address)
	f.check(t, address)
	server.kill()
	server, address = f.start(t.Context(), t)
	f.untilFull(t, address) // there may be room that the dead one was about to use
	f.check(t, address)
	f.purge(t, address)
	f.check(t, address)

	if err := os.Remove(stranger); err != nil {
		t.Fatal(err)
	}
	began = time.Now()
	f.untilStored(t, address)
	t.Logf("accepted again %v after there was room", time.Since(began).Round(time.Millisecond))
	eventually(t, "the ballast is made again", func() bool {
		_, err := os.Stat(filepath.Join(f.dir, "ballast"))
		return err == nil
	})
	f.check(t, address)
	t.Logf("%d stored, %d refused", f.sent-f.rejects, f.rejects)
}

// filler publishes to /other, which it wants to keep, and to /crash, which it
// purges.
type filler struct {
	*world
	sent, rejects int
}

// publish sends a message, waits for its answer, and says whether it was stored.
// The only other answer is storage_full.
func (f *filler) publish(t *testing.T, c *conn, topic parley.Topic) bool {
	t.Helper()
	refused, err := f.try(c, topic)
	switch {
	case err != nil:
		t.Fatalf("publish: %v", err)
	case refused == "":
		return true
	case refused != "storage_full":
		t.Fatalf("publish: the answer is %s", refused)
	}
	f.rejects++
	return false
}

// try publishes 32 KiB that do not compress, and returns the code of a refusal
// that says to try again.
func (f *filler) try(c *conn, topic parley.Topic) (refused string, err error) {
	f.sent++
	id := fmt.Sprintf("fill-%d", f.sent)
	weight := make([]byte, 24<<10)
	for i := range weight {
		weight[i] = byte(f.rand.Uint32())
	}
	body := id + " " + base64.StdEncoding.EncodeToString(weight)
	err = c.send(fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"publish","params":{"topic":%q,"text":%q}}`, f.sent, topic, body))
	if err == nil {
		err = c.w.Flush()
	}
	frame := ""
	if err == nil {
		frame, err = c.next()
	}
	var told struct {
		Result struct{ Seq parley.Seq }
		Error  struct {
			Data struct {
				Code  string
				Retry bool
			}
		}
	}
	if err == nil {
		err = json.Unmarshal([]byte(frame), &told)
	}
	switch {
	case err != nil:
		return "", err
	case told.Result.Seq == 0 && !told.Error.Data.Retry:
		return "", fmt.Errorf("the answer is %s", frame)
	case told.Result.Seq != 0 && topic == "/other":
		f.ledger.Ack(oracle.Message{Stream: "other", Seq: told.Result.Seq, ID: id, Sum: oracle.SumOf(topic, "", []byte(body))})
	}
	return told.Error.Data.Code, nil
}

// open connects with the native protocol.
func (f *filler) open(t *testing.T, address string) *conn {
	t.Helper()
	c, err := dial(address, "/v1/rpc")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// untilFull publishes until the server refuses, and goes on to refuse for half a
// second: while it rewrites tables there is less room than in the end.
func (f *filler) untilFull(t *testing.T, address string) {
	t.Helper()
	c := f.open(t, address)
	defer func() { _ = c.Close() }()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	stored := 0
	for refused := 0; refused < 25; {
		if f.publish(t, c, []parley.Topic{"/crash", "/crash", "/other"}[f.sent%3]) {
			stored, refused = stored+1, 0
			continue
		}
		refused++
		<-tick.C
	}
	t.Logf("full after %d messages", stored)
}

// refused publishes in vain.
func (f *filler) refused(t *testing.T, address string) {
	t.Helper()
	c := f.open(t, address)
	defer func() { _ = c.Close() }()
	for range 20 {
		if f.publish(t, c, "/other") {
			t.Error("a publish was accepted on a full disk")
		}
	}
}

// untilStored publishes until that is accepted.
func (f *filler) untilStored(t *testing.T, address string) {
	t.Helper()
	c := f.open(t, address)
	defer func() { _ = c.Close() }()
	eventually(t, "a publish is accepted", func() bool { return f.publish(t, c, "/other") })
}

// eventually waits until is holds, for 20 seconds.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	end := time.Now().Add(20 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !is() {
		if time.Now().After(end) {
			t.Fatalf("not within 20 s: %s", what)
		}
		<-tick.C
	}
}

// check reads what was acknowledged.
func (f *filler) check(t *testing.T, address string) {
	t.Helper()
	c, err := dial(address, "/stream/user/fetch")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	log, err := fetch(c, "other")
	if err != nil {
		t.Fatal(err)
	}
	if err := f.ledger.Check(log); err != nil {
		t.Error(err)
	}
}

// purge deletes the messages of /crash.
func (f *filler) purge(t *testing.T, address string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, f.binary, "topic", "purge", "/crash", "--yes", "--server", "http://"+address).CombinedOutput()
	if err != nil {
		t.Fatalf("purge: %v: %s", err, out)
	}
}

// state compares what health and metrics say of the disk.
func (f *filler) state(t *testing.T, address string, health, full int) {
	t.Helper()
	get := func(path string) (int, string) {
		resp, err := http.Get("http://" + address + path)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(body)
	}
	if status, body := get("/admin/healthcheck"); status != health || health != http.StatusOK && !strings.Contains(body, `"disk":`) {
		t.Errorf("health is %d %s, want %d", status, body, health)
	}
	_, metrics := get("/admin/metrics")
	value := func(name string) int {
		m := regexp.MustCompile(`(?m)^` + name + ` (\d+)$`).FindStringSubmatch(metrics)
		if m == nil {
			t.Fatalf("no metric %s", name)
		}
		n, _ := strconv.Atoi(m[1])
		return n
	}
	if got := value("parley_storage_full"); got != full {
		t.Errorf("parley_storage_full is %d, want %d", got, full)
	}
	if got := value("parley_storage_full_messages_total"); got != f.rejects {
		t.Errorf("parley_storage_full_messages_total is %d, want %d", got, f.rejects)
	}
}
