package texto

import (
	"crypto/rand"
	"encoding/hex"
	"strings"
)

// UUID names a session or a message. The zero UUID is the nil UUID, which is
// nobody's.
type UUID [16]byte

// uuidText is how long a UUID is as text.
const uuidText = 36

// newUUID makes a random UUID, of version 4.
func newUUID() UUID {
	var u UUID
	_, _ = rand.Read(u[:]) // never fails
	u[6] = u[6]&0x0f | 0x40
	u[8] = u[8]&0x3f | 0x80
	return u
}

// parseUUID reads a UUID in the forms that the original server takes: five
// groups, with urn:uuid: before them, or in braces of which the closing one may be
// missing. The version, which is the first digit of the third group, must not be
// above 5.
func parseUUID(s string) (UUID, bool) {
	var u UUID
	if rest, ok := strings.CutPrefix(s, "urn:uuid:"); ok {
		s = rest
	} else if rest, ok := strings.CutPrefix(s, "{"); ok {
		s = rest
		if len(s) == uuidText+1 {
			s = strings.TrimSuffix(s, "}")
		}
	}
	if len(s) != uuidText || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' || s[14] < '0' || s[14] > '5' {
		return UUID{}, false
	}
	digits := s[:8] + s[9:13] + s[14:18] + s[19:23] + s[24:]
	if _, err := hex.Decode(u[:], []byte(digits)); err != nil {
		return UUID{}, false
	}
	return u, true
}

// appendTo appends u in lower case.
func (u UUID) appendTo(dst []byte) []byte {
	for i, b := range u {
		if i == 4 || i == 6 || i == 8 || i == 10 {
			dst = append(dst, '-')
		}
		dst = hex.AppendEncode(dst, []byte{b})
	}
	return dst
}

// String is u in lower case.
func (u UUID) String() string { return string(u.appendTo(make([]byte, 0, uuidText))) }
