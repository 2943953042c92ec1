package pebble

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"

	"github.com/parley-im/parley"
)

// The first byte of a key says what it is for; see the package comment.
const (
	kindBlock  = 'b'
	kindTopic  = 't'
	kindFloor  = 'f'
	kindDedup  = 'i'
	kindWindow = 'w'
	kindRecord = 'k'
	kindMeta   = 'm'
	kindUsage  = 'u'
)

// A topic holds no NUL, so that a NUL ends a name and sorts before all that
// continues it.
const seqBytes = 8

func blockKey(dst []byte, s parley.Stream, first parley.Seq) []byte {
	dst = append(append(append(dst, kindBlock), s...), 0)
	return binary.BigEndian.AppendUint64(dst, uint64(first))
}

// blockBounds are the lowest key and the first key beyond a stream's blocks.
func blockBounds(s parley.Stream) (lower, upper []byte) {
	lower = append(append([]byte{kindBlock}, s...), 0)
	upper = append(append([]byte{kindBlock}, s...), 1)
	return lower, upper
}

// topicKey takes the topic's path below the stream's root.
func topicKey(dst []byte, s parley.Stream, path string, first parley.Seq) []byte {
	dst = append(append(append(dst, kindTopic), s...), 0)
	dst = append(append(dst, path...), 0)
	return binary.BigEndian.AppendUint64(dst, uint64(first))
}

func topicBounds(s parley.Stream, path string) (lower, upper []byte) {
	lower = topicKey(nil, s, path, 0)
	lower = lower[:len(lower)-seqBytes]
	upper = bytes.Clone(lower)
	upper[len(upper)-1] = 1
	return lower, upper
}

func floorKey(s parley.Stream) []byte { return append([]byte{kindFloor}, s...) }

func dedupKey(h dedupHash) []byte { return append([]byte{kindDedup}, h[:]...) }

func windowKey(seq parley.Seq) []byte {
	return binary.BigEndian.AppendUint64([]byte{kindWindow}, uint64(seq))
}

func recordKey(key string) []byte { return append([]byte{kindRecord}, key...) }

// usageKey does not tell the user's name, because it outlives a deleted user.
func usageKey(user string) []byte {
	sum := sha256.Sum256([]byte(user))
	return append([]byte{kindUsage}, sum[:16]...)
}

func metaKey(name string) []byte { return append([]byte{kindMeta}, name...) }

// seqOf reads the seq at the end of a block's or a topic's key.
func seqOf(key []byte) parley.Seq {
	return parley.Seq(binary.BigEndian.Uint64(key[len(key)-seqBytes:]))
}

// streamOf reads the stream of a block's key.
func streamOf(key []byte) parley.Stream {
	return parley.Stream(key[1 : len(key)-seqBytes-1])
}

// prefixEnd is the first key beyond all keys that begin with prefix.
func prefixEnd(prefix []byte) []byte {
	end := bytes.Clone(prefix)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i]++; end[i] != 0 {
			return end[:i+1]
		}
	}
	return nil
}
