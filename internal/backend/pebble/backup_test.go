package pebble_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/backend"
	"github.com/parley-im/parley/internal/backend/pebble"
	"github.com/parley-im/parley/test/oracle"
)

// archiveOf is a backup of a store with something of everything.
func archiveOf(t *testing.T) []byte {
	t.Helper()
	db := mustOpen(t, filepath.Join(copied(t, "testdata/golden-v1/store"), "store"), goldenOptions())
	defer mustClose(t, db)
	var archive bytes.Buffer
	if _, err := db.Backup(t.Context(), &archive, pebble.BackupOptions{Version: "1.2.3"}); err != nil {
		t.Fatal(err)
	}
	return archive.Bytes()
}

// A backup restores to a store with the same contents, that is sound, private,
// and goes on an hour past the clock.
func TestBackupAndRestore(t *testing.T) {
	t.Parallel()
	archive := archiveOf(t)
	dir := filepath.Join(t.TempDir(), "new", "store")
	before := time.Now()
	done, err := pebble.Restore(t.Context(), bytes.NewReader(archive), dir, pebble.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if !done.Report.Sound() || done.Version != "1.2.3" || done.Report.Messages == 0 {
		t.Errorf("restored %+v", done)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("mode %v (%v), want 0700", info.Mode(), err)
	}
	db := mustOpen(t, dir, pebble.Options{})
	defer mustClose(t, db)
	r := appendOne(t, db, newEntry("after"))
	if want := parley.Seq(before.Add(time.Hour).UnixMicro()); r.Seq < want || r.Seq < done.Next {
		t.Errorf("the first seq after the restore is %d, want at least %d and %d", r.Seq, want, done.Next)
	}
}

// What was restored has all that the store had, and its keys are known.
func TestRestoreKeepsEverything(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "store")
	if _, err := pebble.Restore(t.Context(), bytes.NewReader(archiveOf(t)), dir, goldenOptions()); err != nil {
		t.Fatal(err)
	}
	db := mustOpen(t, dir, goldenOptions())
	defer mustClose(t, db)
	want, err := os.ReadFile("testdata/golden-v1/contents.txt")
	if err != nil {
		t.Fatal(err)
	}
	if got := contents(t, db); got != string(want) {
		t.Errorf("restored\n%s\nwant\n%s", got, want)
	}
	repeatKeys(t, db)
}

// The seqs that a store gave after its backup are not given again by the one
// that is restored, although that one knows nothing of them.
func TestRestoredStoreRepeatsNoSeq(t *testing.T) {
	t.Parallel()
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	opt := pebble.Options{Now: func() time.Time { return now }}
	given := map[parley.Seq]bool{}
	dir := filepath.Join(t.TempDir(), "0")
	for life := range 4 {
		db := mustOpen(t, dir, opt)
		publish := func() {
			for range 100 {
				r := appendOne(t, db, newEntry("x"))
				if given[r.Seq] {
					t.Fatalf("life %d gives seq %d again", life, r.Seq)
				}
				given[r.Seq] = true
			}
		}
		publish()
		var archive bytes.Buffer
		if _, err := db.Backup(t.Context(), &archive, pebble.BackupOptions{}); err != nil {
			t.Fatal(err)
		}
		publish()
		mustClose(t, db)
		now = now.Add(time.Minute)
		dir = filepath.Join(t.TempDir(), fmt.Sprint(life+1))
		if _, err := pebble.Restore(t.Context(), &archive, dir, opt); err != nil {
			t.Fatal(err)
		}
	}
}

// TestHotBackup (R20): a backup under load holds every message that was
// acknowledged before it was asked for, and of each stream a beginning.
func TestHotBackup(t *testing.T) {
	t.Parallel()
	rounds := 5
	if testing.Short() {
		rounds = 2
	}
	db := mustOpen(t, filepath.Join(t.TempDir(), "store"), pebble.Options{})
	defer mustClose(t, db)
	ctx, stop := context.WithCancel(t.Context())
	var load sync.WaitGroup
	defer load.Wait()
	defer stop()
	ledger := &oracle.Ledger{}
	for w := range 4 {
		load.Go(func() {
			body := bytes.Repeat([]byte{byte(w)}, 2000)
			for n := 0; ctx.Err() == nil; n++ {
				m := &parley.Message{Topic: parley.Topic(fmt.Sprintf("/s%d/x", n%3)), ID: fmt.Sprint(w, "-", n), Body: body}
				results, err := db.Append(context.WithoutCancel(ctx), []backend.Entry{{Message: m}})
				if err != nil {
					t.Error(err)
					return
				}
				ledger.Ack(oracle.Message{Stream: m.Topic.Stream(), Seq: results[0].Seq, ID: m.ID, Sum: oracle.SumOf(m.Topic, m.Header, m.Body)})
			}
		})
	}
	for round := range rounds {
		for deadline := time.Now().Add(10 * time.Second); len(ledger.Acked()) < 2000*(round+1) && time.Now().Before(deadline); {
			<-time.After(time.Millisecond)
		}
		acked := ledger.Acked()
		var archive bytes.Buffer
		if _, err := db.Backup(t.Context(), &archive, pebble.BackupOptions{}); err != nil {
			t.Fatal(err)
		}
		dir := filepath.Join(t.TempDir(), fmt.Sprint(round))
		done, err := pebble.Restore(t.Context(), &archive, dir, pebble.Options{})
		if err != nil {
			t.Fatal(err)
		}
		restored := all(t, dir)
		if err := errors.Join(oracle.Lost(acked, restored), oracle.Order(restored)); err != nil {
			t.Fatal(err)
		}
		// What is in it is a beginning: of no stream is a message missing below
		// the last one that is there.
		if err := beginnings(wholeLog(t, db), restored); err != nil {
			t.Fatal(err)
		}
		t.Logf("%d acknowledged before, %d in the backup of %d bytes", len(acked), len(restored), done.Bytes)
	}
}

// beginnings says whether part is, of one instant of log, everything: all
// streams cut at the same seq.
func beginnings(log, part []oracle.Message) error {
	have := map[parley.Seq]oracle.Message{}
	last := parley.Seq(0)
	for _, m := range part {
		have[m.Seq] = m
		last = max(last, m.Seq)
	}
	for _, m := range log {
		if m.Seq <= last && have[m.Seq] != m {
			return fmt.Errorf("seq %d of stream %s is missing below seq %d", m.Seq, m.Stream, last)
		}
	}
	return nil
}

func TestBeginningsNoticesAHole(t *testing.T) {
	log := []oracle.Message{{Stream: "a", Seq: 1}, {Stream: "b", Seq: 2}, {Stream: "a", Seq: 3}}
	if err := beginnings(log, log[:2]); err != nil {
		t.Error(err)
	}
	if beginnings(log, []oracle.Message{log[0], log[2]}) == nil {
		t.Error("a hole is not noticed")
	}
}

// all is what a closed store holds.
func all(t *testing.T, dir string) []oracle.Message {
	t.Helper()
	db := mustOpen(t, dir, pebble.Options{})
	defer mustClose(t, db)
	return wholeLog(t, db)
}

func wholeLog(t *testing.T, db *pebble.DB) []oracle.Message {
	t.Helper()
	log, err := readLog(t.Context(), db)
	if err != nil {
		t.Fatal(err)
	}
	return log
}

// readLog reads every stream from its beginning.
func readLog(ctx context.Context, db *pebble.DB) ([]oracle.Message, error) {
	var log []oracle.Message
	for s, err := range db.Streams(ctx, "") {
		if err != nil {
			return nil, err
		}
		for q := (backend.Query{Stream: s}); ; {
			page, err := db.Read(ctx, q)
			if err != nil {
				return nil, err
			}
			for _, m := range page.Messages {
				log = append(log, oracle.Of(m))
			}
			if q.After = page.Next; !page.More {
				break
			}
		}
	}
	return log, nil
}

// A backup that is broken off leaves nothing behind, and one at a time runs.
func TestBackupThatIsBrokenOff(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "store")
	db := mustOpen(t, dir, pebble.Options{})
	appendOne(t, db, newEntry("x"))
	w := writerFunc(func([]byte) (int, error) {
		if _, err := db.Backup(t.Context(), io.Discard, pebble.BackupOptions{}); !errors.Is(err, parley.ErrUnavailable) {
			t.Errorf("a second backup: %v", err)
		}
		return 0, io.ErrClosedPipe
	})
	if _, err := db.Backup(t.Context(), w, pebble.BackupOptions{}); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("a client that goes: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "backup.tmp")); !os.IsNotExist(err) {
		t.Errorf("what is left: %v", err)
	}
	mustClose(t, db)
	if err := os.MkdirAll(filepath.Join(dir, "backup.tmp", "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	mustClose(t, mustOpen(t, dir, pebble.Options{}))
	if _, err := os.Stat(filepath.Join(dir, "backup.tmp")); !os.IsNotExist(err) {
		t.Errorf("what a crash left is there after the next start: %v", err)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestBackupRate(t *testing.T) {
	t.Parallel()
	db := mustOpen(t, "s", pebble.Options{FS: vfs.NewMem()})
	defer mustClose(t, db)
	for range 8 {
		appendOne(t, db, newEntry(strings.Repeat("x", 1<<16)))
	}
	began := time.Now()
	a, err := db.Backup(t.Context(), io.Discard, pebble.BackupOptions{Rate: 100 << 10})
	if err != nil {
		t.Fatal(err)
	}
	if least := time.Duration(a.Bytes) * time.Second / (100 << 10); time.Since(began) < least/2 {
		t.Errorf("%d bytes took %v, want about %v", a.Bytes, time.Since(began), least)
	}
}

// TestDamagedArchives: every archive that was cut anywhere, or has one bit that
// flipped, is refused, or what it restores is what was backed up: some bits of a
// tar mean nothing.
func TestDamagedArchives(t *testing.T) {
	t.Parallel()
	archive := archiveOf(t)
	seed := rand.Uint64()
	t.Logf("seed %d, %d bytes", seed, len(archive))
	r := rand.New(rand.NewPCG(seed, 0))
	want := unpacked(t, archive)
	for range 400 {
		cut := r.IntN(len(archive) - 1024 - 512) // the tar ends with zeros that mean nothing
		if _, err := pebble.VerifyArchive(t.Context(), bytes.NewReader(archive[:cut])); !errors.Is(err, pebble.ErrArchive) {
			t.Fatalf("cut to %d bytes: %v", cut, err)
		}
	}
	refused := 0
	for range 400 {
		altered := bytes.Clone(archive)
		bit := r.IntN(8 * len(altered))
		altered[bit/8] ^= 1 << (bit % 8)
		if _, err := pebble.VerifyArchive(t.Context(), bytes.NewReader(altered)); err != nil {
			refused++
		} else if unpacked(t, altered) != want {
			t.Fatalf("bit %d: the archive is accepted and holds something else", bit)
		}
	}
	if refused < 200 {
		t.Errorf("only %d of 400 are refused", refused)
	}
}

// unpacked is what an archive holds, as a program that checks nothing sees it.
func unpacked(t *testing.T, archive []byte) string {
	var out strings.Builder
	for r := tar.NewReader(bytes.NewReader(archive)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return out.String()
		}
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&out, "%s %x\n", h.Name, body)
	}
}

// TestHostileArchives (S17): nothing in an archive leads out of the new
// directory, or into it what a store does not have.
func TestHostileArchives(t *testing.T) {
	t.Parallel()
	const head = `{"format":1}`
	for _, tt := range []struct {
		name string
		head string
		file tar.Header
		want string
	}{
		{"parent", head, tar.Header{Name: "../evil"}, "has no file"},
		{"parent below", head, tar.Header{Name: "log/../../evil.sst"}, "has no file"},
		{"absolute", head, tar.Header{Name: "/etc/passwd"}, "has no file"},
		{"unknown", head, tar.Header{Name: "log/evil.so"}, "has no file"},
		{"deeper", head, tar.Header{Name: "log/a/000001.sst"}, "has no file"},
		{"NUL", head, tar.Header{Name: "log/000001.sst\x00", Format: tar.FormatGNU}, ""},
		{"symlink", head, tar.Header{Name: "log/000001.sst", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"}, "is not a file"},
		{"hard link", head, tar.Header{Name: "mark", Typeflag: tar.TypeLink, Linkname: "/etc/passwd"}, "is not a file"},
		{"device", head, tar.Header{Name: "mark", Typeflag: tar.TypeBlock}, "is not a file"},
		{"pipe", head, tar.Header{Name: "mark", Typeflag: tar.TypeFifo}, "is not a file"},
		{"directory", head, tar.Header{Name: "log/", Typeflag: tar.TypeDir}, "is not a file"},
		{"twice", head, tar.Header{Name: "parley-backup.json"}, "twice"},
		{"newer", `{"format":2}`, tar.Header{Name: "mark"}, "the archive has format 2, this program reads up to 1"},
		{"no format", `{}`, tar.Header{Name: "mark"}, "the archive has format 0"},
		{"no JSON", `what`, tar.Header{Name: "mark"}, "not whole"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var archive bytes.Buffer
			w := tar.NewWriter(&archive)
			if err := w.WriteHeader(&tar.Header{Name: "parley-backup.json", Size: int64(len(tt.head)), Mode: 0o600}); err != nil {
				t.Fatal(err)
			}
			if _, err := w.Write([]byte(tt.head)); err != nil {
				t.Fatal(err)
			}
			if err := w.WriteHeader(&tt.file); err != nil && tt.want != "" {
				t.Fatal(err)
			}
			_ = w.Close()
			parent := t.TempDir()
			_, err := pebble.Restore(t.Context(), &archive, filepath.Join(parent, "store"), pebble.Options{})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an error that says %q", err, tt.want)
			}
			if left, err := os.ReadDir(parent); err != nil || len(left) > 0 {
				t.Errorf("what is left: %v %v", left, err)
			}
		})
	}
}

// Restore takes no directory that holds something, and leaves it as it is.
func TestRestoreRefusesWhatIsThere(t *testing.T) {
	t.Parallel()
	archive := archiveOf(t)
	parent := t.TempDir()
	full, file, empty, link := filepath.Join(parent, "full"), filepath.Join(parent, "file"), filepath.Join(parent, "empty"), filepath.Join(parent, "link")
	if err := errors.Join(os.MkdirAll(filepath.Join(full, "x"), 0o700), os.WriteFile(file, []byte("x"), 0o600), os.Mkdir(empty, 0o700), os.Symlink(empty, link)); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{full, file, link} {
		if _, err := pebble.Restore(t.Context(), bytes.NewReader(archive), dir, pebble.Options{}); !errors.Is(err, parley.ErrConflict) {
			t.Errorf("%s: %v", dir, err)
		}
	}
	if _, err := pebble.Restore(t.Context(), bytes.NewReader(archive), empty+"/", pebble.Options{}); err != nil {
		t.Error(err)
	}
	if err := os.Mkdir(filepath.Join(parent, "new.partial"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := pebble.Restore(t.Context(), bytes.NewReader(archive), filepath.Join(parent, "new"), pebble.Options{}); !errors.Is(err, parley.ErrConflict) {
		t.Errorf("beside a restore that was broken off: %v", err)
	}
}
