package pebble

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/parley-im/parley"
)

// mark is the file that remembers the watermark apart from the database. It has
// two slots on two disk blocks, written in turn, so that a write torn by a crash
// leaves the other one:
//
//	"PARLEYHW" version(1) seq(8) crc32c of all before(4)
type mark struct {
	file vfs.File
	seq  parley.Seq
	slot int64 // to write next

	slots int // that could be read
}

const (
	markMagic    = "PARLEYHW"
	markVersion  = 1
	markBytes    = len(markMagic) + 1 + 8 + 4
	markSlot     = 4096
	markCategory = vfs.WriteCategoryUnspecified
)

// openMark opens the file and returns the seq in it. Only a store that has no
// messages yet may be without one.
func openMark(fsys vfs.FS, path string, empty bool) (*mark, parley.Seq, error) {
	if _, err := fsys.Stat(path); empty && errors.Is(err, fs.ErrNotExist) {
		if err := createMark(fsys, path); err != nil {
			return nil, 0, fmt.Errorf("create the mark: %w", err)
		}
	} else if err != nil {
		return nil, 0, fmt.Errorf("the mark is missing: %w", err)
	}
	m, err := readMarkFile(fsys, path)
	if err != nil {
		return nil, 0, err
	}
	if m.file, err = fsys.OpenReadWrite(path, markCategory); err != nil {
		return nil, 0, fmt.Errorf("open the mark: %w", err)
	}
	return m, m.seq, nil
}

// readMarkFile reads the slots of the file and leaves it closed.
func readMarkFile(fsys vfs.FS, path string) (*mark, error) {
	file, err := fsys.Open(path)
	if err != nil {
		return &mark{}, fmt.Errorf("the mark is missing: %w", err)
	}
	defer func() { _ = file.Close() }()
	m := &mark{}
	for slot := range int64(2) {
		p := make([]byte, markBytes)
		if _, err := file.ReadAt(p, slot*markSlot); err != nil {
			continue
		}
		seq, err := readMark(p)
		if errors.Is(err, errNewerMark) {
			return &mark{}, err
		}
		if err == nil {
			m.slots++
			if seq >= m.seq {
				m.seq, m.slot = seq, 1-slot
			}
		}
	}
	if m.slots == 0 {
		return m, errors.New("the mark is damaged: no slot can be read")
	}
	return m, nil
}

// createMark makes the file under another name first, so that a crash never
// leaves one without a readable slot.
func createMark(fsys vfs.FS, path string) error {
	file, err := fsys.Create(path+".new", markCategory)
	if err != nil {
		return err
	}
	if _, err := file.Write(markImage(0)); err != nil {
		return errors.Join(err, file.Close())
	}
	if err := errors.Join(file.Sync(), file.Close()); err != nil {
		return err
	}
	if err := fsys.Rename(path+".new", path); err != nil {
		return err
	}
	return syncDir(fsys, fsys.PathDir(path))
}

var errNewerMark = errors.New("the mark was written by a newer program")

func slotBytes(seq parley.Seq) []byte {
	p := append([]byte(markMagic), markVersion)
	p = binary.BigEndian.AppendUint64(p, uint64(seq))
	return binary.BigEndian.AppendUint32(p, crc32.Checksum(p, crc32.MakeTable(crc32.Castagnoli)))
}

func readMark(p []byte) (parley.Seq, error) {
	body := p[:markBytes-4]
	if string(body[:len(markMagic)]) != markMagic || crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli)) != binary.BigEndian.Uint32(p[markBytes-4:]) {
		return 0, errCorrupt
	}
	if body[len(markMagic)] > markVersion {
		return 0, errNewerMark
	}
	return parley.Seq(binary.BigEndian.Uint64(body[len(markMagic)+1:])), nil
}

// markImage is the file as it would be with seq in both slots.
func markImage(seq parley.Seq) []byte {
	p := make([]byte, 2*markSlot)
	copy(p, slotBytes(seq))
	copy(p[markSlot:], slotBytes(seq))
	return p
}

// write records seq durably. It does nothing when seq is recorded already.
func (m *mark) write(seq parley.Seq) error {
	if seq <= m.seq {
		return nil
	}
	if _, err := m.file.WriteAt(slotBytes(seq), m.slot*markSlot); err != nil {
		return err
	}
	if err := m.file.SyncData(); err != nil {
		return err
	}
	m.seq, m.slot = seq, 1-m.slot
	return nil
}

func (m *mark) close() error { return m.file.Close() }
