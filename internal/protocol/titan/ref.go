package titan

import (
	"strconv"
	"strings"
)

// A ref is how a request is named to the broker and recognised in its answer:
// what it asked, the batch that it came in, and its id on the wire.
type ref struct {
	kind  kind
	batch uint64 // 0 is none
	id    string // as on the wire; empty is none
}

// kind is what the answer to a request is about.
type kind byte

const (
	plain    kind = 'p' // its result is ACK
	announce kind = 'a' // so is its, and deliveries may begin behind it
	echoed   kind = 'e' // its result is in the event
	jwt      kind = 'j' // auth.jwt
	implicit kind = 'i' // some other request that came with a token
	google   kind = 'g' // auth.google
	badCert  kind = 'c' // auth.cert without a certificate
	opening  kind = 'o' // the server's own: the inbox
	notice   kind = 'n' // no answer at all but a frame of the server's
	last     kind = 'l' // an error that is the last that the client is told
	quit     kind = 'q' // the end, without a word
)

func (r ref) String() string {
	return string(r.kind) + strconv.FormatUint(r.batch, 36) + ":" + r.id
}

// parseRef reads what String wrote.
func parseRef(s string) ref {
	number, id, _ := strings.Cut(s[1:], ":")
	var batch uint64
	if number != "0" {
		batch, _ = strconv.ParseUint(number, 36, 64) // String wrote it
	}
	return ref{kind(s[0]), batch, id}
}

// ends reports whether a failure of what r asked ends the conversation.
func (r ref) ends() bool {
	switch r.kind {
	case jwt, implicit, google, badCert, opening, last, quit:
		return true
	case plain, announce, echoed, notice:
	}
	return false
}
