package titan

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"

	"github.com/parley-im/parley"
)

// SecretBytes is how long the secret of IDs is.
const SecretBytes = 32

const (
	seqBytes   = 8
	idLength   = 22 // of aes.BlockSize bytes in base64 without padding
	cipherKeys = aes.BlockSize
)

// IDs makes the ids under which messages are delivered. An id is the message's
// seq and a check of whose inbox it is in, encrypted: so it is the same for every
// delivery, on any connection and after a restart, says nothing, and cannot be
// made up. Any goroutines may use it.
type IDs struct {
	block  cipher.Block
	secret []byte
}

// NewIDs makes ids with a secret of SecretBytes, which should outlive the
// process: ids that were made with another one are not known.
func NewIDs(secret []byte) (*IDs, error) {
	if len(secret) != SecretBytes {
		return nil, fmt.Errorf("titan: a secret of %d bytes, not %d: %w", len(secret), SecretBytes, parley.ErrInvalid)
	}
	block, err := aes.NewCipher(secret[:cipherKeys])
	if err != nil {
		return nil, fmt.Errorf("titan: %w", err)
	}
	return &IDs{block, secret[cipherKeys:]}, nil
}

// inbox makes the ids of one user's inbox.
type inbox struct {
	block cipher.Block
	check [aes.BlockSize - seqBytes]byte
}

func (k *IDs) inbox(user string) *inbox {
	mac := hmac.New(sha256.New, k.secret)
	mac.Write([]byte(user))
	b := &inbox{block: k.block}
	copy(b.check[:], mac.Sum(nil))
	return b
}

// appendID appends the id of the message with that seq.
func (b *inbox) appendID(dst []byte, seq parley.Seq) []byte {
	var id [aes.BlockSize]byte
	binary.BigEndian.PutUint64(id[:], uint64(seq))
	copy(id[seqBytes:], b.check[:])
	b.block.Encrypt(id[:], id[:])
	return base64.RawURLEncoding.AppendEncode(dst, id[:])
}

// seq is which message an id is of; false when it is none of this inbox.
func (b *inbox) seq(id string) (parley.Seq, bool) {
	var p [aes.BlockSize]byte
	if len(id) != idLength {
		return 0, false
	}
	if n, err := base64.RawURLEncoding.Strict().Decode(p[:], []byte(id)); err != nil || n != len(p) {
		return 0, false
	}
	b.block.Decrypt(p[:], p[:])
	if !hmac.Equal(p[seqBytes:], b.check[:]) {
		return 0, false
	}
	return parley.Seq(binary.BigEndian.Uint64(p[:])), true
}
