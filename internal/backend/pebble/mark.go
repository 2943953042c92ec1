package pebble

import (
	"cmp"
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
//	"PARLEYHW" version(1) seq(8) id(8) manifest(8) length(8) crc32c of all before(4)
//
// Id is the store's, and the rest says how far which manifest is synced, see
// place; version 1 has neither.
type mark struct {
	file  vfs.File
	seq   parley.Seq
	id    storeID // 0 in version 1
	place place
	slot  int64 // to write next

	slots int // that could be read
}

const (
	markMagic    = "PARLEYHW"
	markVersion  = 2
	markBytes    = len(markMagic) + 1 + 4*8 + 4
	markBytesV1  = len(markMagic) + 1 + 8 + 4
	markSlot     = 4096
	markCategory = vfs.WriteCategoryUnspecified
)

// openMark opens the file and returns the seq in it. Only a store that has no
// messages yet may be without one.
func openMark(fsys vfs.FS, path string, id storeID, empty bool) (*mark, parley.Seq, error) {
	if _, err := fsys.Stat(path); empty && errors.Is(err, fs.ErrNotExist) {
		if err := createMark(fsys, path, id); err != nil {
			return nil, 0, fmt.Errorf("create the mark: %w", err)
		}
	} else if err != nil {
		return nil, 0, fmt.Errorf("the mark is missing: %w", err)
	}
	m, err := readMarkFile(fsys, path)
	if err != nil {
		return nil, 0, err
	}
	switch m.id {
	case id:
	case 0:
		m.id = id // it is written with the next seq
	default:
		return nil, 0, fmt.Errorf("the mark is of another store (%x) than the database (%x): %w", m.id, id, ErrDamaged)
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
		read, err := readSlot(p)
		if errors.Is(err, errNewerMark) {
			return &mark{}, err
		}
		if err == nil {
			m.slots++
			if !read.older(m) {
				m.seq, m.id, m.place, m.slot = read.seq, read.id, read.place, 1-slot
			}
		}
	}
	if m.slots == 0 {
		return m, errors.New("the mark is damaged: no slot can be read")
	}
	return m, nil
}

// older reports whether m was written before other.
func (m *mark) older(other *mark) bool {
	return cmp.Or(
		cmp.Compare(m.seq, other.seq),
		cmp.Compare(m.place.number, other.place.number),
		cmp.Compare(m.place.size, other.place.size),
	) < 0
}

// createMark makes the file under another name first, so that a crash never
// leaves one without a readable slot.
func createMark(fsys vfs.FS, path string, id storeID) error {
	file, err := fsys.Create(path+".new", markCategory)
	if err != nil {
		return err
	}
	if _, err := file.Write(markImage(mark{id: id})); err != nil {
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

func (m *mark) slotBytes() []byte {
	p := append([]byte(markMagic), markVersion)
	for _, field := range []uint64{uint64(m.seq), uint64(m.id), m.place.number, m.place.size} {
		p = binary.BigEndian.AppendUint64(p, field)
	}
	return binary.BigEndian.AppendUint32(p, crc32.Checksum(p, crc32.MakeTable(crc32.Castagnoli)))
}

// readSlot reads what slotBytes wrote, of any version.
func readSlot(p []byte) (mark, error) {
	for _, size := range []int{markBytes, markBytesV1} {
		body := p[:size-4]
		if string(body[:len(markMagic)]) != markMagic || crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli)) != binary.BigEndian.Uint32(p[size-4:]) {
			continue
		}
		fields := body[len(markMagic)+1:]
		field := func(n int) uint64 { return binary.BigEndian.Uint64(fields[8*n:]) }
		switch body[len(markMagic)] {
		case 1:
			return mark{seq: parley.Seq(field(0))}, nil
		case markVersion:
			return mark{seq: parley.Seq(field(0)), id: storeID(field(1)), place: place{field(2), field(3)}}, nil
		}
		return mark{}, errNewerMark
	}
	return mark{}, errCorrupt
}

// markImage is the file as it would be with m in both slots.
func markImage(m mark) []byte {
	p := make([]byte, 2*markSlot)
	copy(p, m.slotBytes())
	copy(p[markSlot:], m.slotBytes())
	return p
}

// write records seq, and how far the manifest is synced, durably. It does
// nothing when both are recorded already.
func (m *mark) write(seq parley.Seq, at place) error {
	if seq <= m.seq && at == m.place {
		return nil
	}
	next := mark{seq: max(seq, m.seq), id: m.id, place: at}
	if _, err := m.file.WriteAt(next.slotBytes(), m.slot*markSlot); err != nil {
		return err
	}
	if err := m.file.SyncData(); err != nil {
		return err
	}
	m.seq, m.place, m.slot = next.seq, at, 1-m.slot
	return nil
}

func (m *mark) close() error { return m.file.Close() }
