package pebble

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"regexp"
	"time"

	"github.com/parley-im/parley"
)

// An archive is a tar of
//
//	parley-backup.json   what it is, see Archive
//	mark                 the mark of that instant
//	log/…                the database
//	SHA256SUMS           of all the above, as sha256sum writes it
//
// The sums come last, so that an archive which was cut is not whole, and "tar x"
// with "sha256sum -c" can check it without this program. What is in it was
// compressed by the store already.
const (
	archiveFormat = 1
	archiveHead   = "parley-backup.json"
	archiveSums   = "SHA256SUMS"
	markName      = "mark"
	logName       = "log"

	maxArchiveHead  = 64 << 10
	maxArchiveFiles = 1 << 20
	archiveChunk    = 256 << 10 // what is read from the disk at a time
)

// Archive says what a backup is.
type Archive struct {
	// Format is that of the archive; a newer one than this program's is refused.
	Format int `json:"format"`
	// Version is that of the program that wrote it.
	Version string `json:"version"`
	// Taken is the instant whose state it holds, by the clock of its machine.
	Taken time.Time `json:"taken"`
	// Last is a seq up to which everything is in it.
	Last parley.Seq `json:"last"`
	// Files and Bytes are what it holds; they are counted, not stored.
	Files int   `json:"-"`
	Bytes int64 `json:"-"`
}

// ErrArchive is wrapped by the errors about an archive that is damaged, cut, or
// no archive at all.
var ErrArchive = errors.New("the archive is not whole")

// archiveWriter writes an archive, a file at a time.
type archiveWriter struct {
	ctx  context.Context //nolint:containedctx // lives within one call, whose context it is
	tar  *tar.Writer
	head Archive
	sums bytes.Buffer
	buf  []byte
}

func newArchiveWriter(ctx context.Context, w io.Writer, head Archive) (*archiveWriter, error) {
	head.Format = archiveFormat
	a := &archiveWriter{ctx: ctx, tar: tar.NewWriter(w), head: head, buf: make([]byte, archiveChunk)}
	p, err := json.MarshalIndent(head, "", "  ")
	if err != nil {
		return nil, err
	}
	return a, a.bytes(archiveHead, append(p, '\n'))
}

func (a *archiveWriter) bytes(name string, p []byte) error {
	return a.file(name, int64(len(p)), bytes.NewReader(p))
}

// file adds size bytes of r.
func (a *archiveWriter) file(name string, size int64, r io.Reader) error {
	h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o600, ModTime: a.head.Taken.Truncate(time.Second)}
	if err := a.tar.WriteHeader(h); err != nil {
		return err
	}
	sum := sha256.New()
	n, err := copyChunks(a.ctx, io.MultiWriter(a.tar, sum), io.LimitReader(r, size), a.buf)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if n != size {
		return fmt.Errorf("%s has %d bytes, not %d: %w", name, n, size, io.ErrUnexpectedEOF)
	}
	addSum(&a.sums, sum, name)
	a.head.Files++
	a.head.Bytes += size
	return nil
}

// close writes the sums.
func (a *archiveWriter) close() error {
	sums := bytes.Clone(a.sums.Bytes())
	if err := a.bytes(archiveSums, sums); err != nil {
		return err
	}
	return a.tar.Close()
}

func addSum(sums *bytes.Buffer, sum hash.Hash, name string) {
	fmt.Fprintf(sums, "%x  %s\n", sum.Sum(nil), name)
}

// copyChunks copies until the end of r or of ctx.
func copyChunks(ctx context.Context, w io.Writer, r io.Reader, buf []byte) (int64, error) {
	var total int64
	for {
		if err := ctx.Err(); err != nil {
			return total, err
		}
		n, err := io.ReadFull(r, buf)
		total += int64(n)
		if _, err := w.Write(buf[:n]); err != nil {
			return total, err
		}
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF) && n < len(buf):
			return total, nil
		case err != nil:
			return total, err
		}
	}
}

// taker gets each file of an archive in turn. What it does not read is skipped.
type taker func(name string, r io.Reader) error

// readArchive reads a whole archive and gives each file of the store to take.
// Only when it returns without an error is what it gave whole.
func readArchive(ctx context.Context, r io.Reader, take taker) (Archive, error) {
	a := archiveReader{ctx: ctx, tar: tar.NewReader(r), seen: map[string]bool{}, buf: make([]byte, archiveChunk)}
	if err := a.readHead(); err != nil {
		return Archive{}, err
	}
	for {
		h, err := a.next()
		if err != nil {
			return Archive{}, err
		}
		if h.Name == archiveSums {
			return a.head, a.finish(h)
		}
		if err := a.checkName(h.Name); err != nil {
			return Archive{}, err
		}
		sum := sha256.New()
		body := io.TeeReader(a.tar, sum)
		if err := take(h.Name, body); err != nil {
			return Archive{}, fmt.Errorf("%s: %w", h.Name, err)
		}
		if _, err := copyChunks(ctx, io.Discard, body, a.buf); err != nil {
			return Archive{}, fmt.Errorf("%s: %w: %w", h.Name, ErrArchive, err)
		}
		addSum(&a.sums, sum, h.Name)
		a.head.Bytes += h.Size
	}
}

type archiveReader struct {
	ctx  context.Context //nolint:containedctx // lives within one call, whose context it is
	tar  *tar.Reader
	head Archive
	sums bytes.Buffer
	seen map[string]bool
	buf  []byte
}

// next is the next entry, which must be a file.
func (a *archiveReader) next() (*tar.Header, error) {
	if err := a.ctx.Err(); err != nil {
		return nil, err
	}
	h, err := a.tar.Next()
	if errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("it ends before its sums: %w", ErrArchive)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrArchive, err)
	}
	if h.Typeflag != tar.TypeReg {
		return nil, fmt.Errorf("%q is not a file but of type %q: %w", h.Name, h.Typeflag, ErrArchive)
	}
	if a.seen[h.Name] || len(a.seen) > maxArchiveFiles {
		return nil, fmt.Errorf("%q comes twice, or there are too many files: %w", h.Name, ErrArchive)
	}
	a.seen[h.Name] = true
	return h, nil
}

func (a *archiveReader) readHead() error {
	h, err := a.next()
	if err != nil {
		return err
	}
	if h.Name != archiveHead || h.Size > maxArchiveHead {
		return fmt.Errorf("it begins with %q and not with %s: %w", h.Name, archiveHead, ErrArchive)
	}
	p, err := io.ReadAll(a.tar)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrArchive, err)
	}
	if err := json.Unmarshal(p, &a.head); err != nil {
		return fmt.Errorf("%s: %w: %w", archiveHead, ErrArchive, err)
	}
	if a.head.Format < 1 || a.head.Format > archiveFormat {
		return fmt.Errorf("the archive has format %d, this program reads up to %d: use a newer program: %w", a.head.Format, archiveFormat, parley.ErrInvalid)
	}
	sum := sha256.New()
	_, _ = sum.Write(p)
	addSum(&a.sums, sum, h.Name)
	a.head.Bytes += h.Size
	return nil
}

// storeFile is what the files of a database are called; see Pebble.
const storeFile = `^(\d{6,18}\.(sst|blob|log)|\d{6,18}-\d{3}\.log|(MANIFEST|OPTIONS)-\d{6,18}|marker\.format-version\.\d{6,18}\.\d{3,6}|marker\.manifest\.\d{6,18}\.MANIFEST-\d{6,18})$`

// isStoreFile reports whether a database has files of that name.
func isStoreFile(name string) bool {
	ok, err := regexp.MatchString(storeFile, name)
	return ok && err == nil
}

// checkName refuses whatever a store does not have, and with it every name that
// leads elsewhere.
func (a *archiveReader) checkName(name string) error {
	const below = logName + "/"
	if name == markName || len(name) > len(below) && name[:len(below)] == below && isStoreFile(name[len(below):]) {
		return nil
	}
	return fmt.Errorf("a store has no file %q: %w", name, ErrArchive)
}

// finish compares the sums, and sees that nothing comes after them.
func (a *archiveReader) finish(h *tar.Header) error {
	want := a.sums.Bytes()
	if h.Size != int64(len(want)) {
		return fmt.Errorf("its sums are of other files: %w", ErrArchive)
	}
	got, err := io.ReadAll(a.tar)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrArchive, err)
	}
	if !bytes.Equal(got, want) {
		return fmt.Errorf("%s was altered: %w", firstDifference(got, want), ErrArchive)
	}
	if _, err := a.tar.Next(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("something follows its end: %w", ErrArchive)
	}
	if !a.seen[markName] {
		return fmt.Errorf("it has no %s: %w", markName, ErrArchive)
	}
	a.head.Files = len(a.seen) - 1
	return nil
}

// firstDifference names the first file whose sum is another.
func firstDifference(got, want []byte) string {
	theirs := bytes.Split(got, []byte("\n"))
	for i, line := range bytes.Split(want, []byte("\n")) {
		if i < len(theirs) && bytes.Equal(line, theirs[i]) {
			continue
		}
		if _, name, ok := bytes.Cut(line, []byte("  ")); ok {
			return string(name)
		}
	}
	return archiveSums
}
