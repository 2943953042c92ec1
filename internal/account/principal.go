package account

import (
	"fmt"
	"time"

	"github.com/parley-im/parley"
)

// Principal is who a credential proves, and what they may do. It is immutable:
// a refreshed credential makes a new one.
type Principal struct {
	parley.Identity

	// Open allows everything but what is the server's own, because nobody is
	// asked for a credential.
	Open bool
	// Grants are what it may do besides reading its own inbox; those of a key that
	// has some are all that it may do.
	Grants []Grant
	// Expires is when all that ends; zero is never.
	Expires time.Time
	// Issued is when the credential was made, if it says so. Those of a user
	// that were issued before a moment can be revoked together.
	Issued time.Time
	// Credential names what proved it, for revocation and the audit log, and is
	// no secret: "jwt:ID", "key:ID", "cert:SERIAL", or empty.
	Credential string
	// Rev is the revision of the user's record that this was made of, 0 for none.
	Rev uint64

	// scoped says that Grants are all that it may do, whatever its user may.
	scoped bool
}

// Nobody may do nothing.
func Nobody() *Principal { return &Principal{} }

// Anyone is who is never asked for a credential. The identity is what they say.
func Anyone(id parley.Identity) *Principal { return &Principal{Identity: id, Open: true} }

// Known reports whether p is anybody: somebody who is not has to authenticate
// before anything else.
func (p *Principal) Known() bool { return p.Open || p.User != "" || len(p.Grants) > 0 }

// The refusals. They do not tell whether the topic or the user exists.
var (
	ErrUnknown  = fmt.Errorf("authenticate first: %w", parley.ErrUnauthenticated)
	ErrReserved = fmt.Errorf("topics that begin with $ are the server's own: %w", parley.ErrForbidden)
)

// Allow returns nil if p may do the one operation o on the topic t and all below
// it, and otherwise an error that wraps parley.ErrForbidden, or
// parley.ErrUnauthenticated when nobody knows who asks. A user's own inbox is
// theirs to subscribe to and read, and nobody else's; a key with grants needs one
// for that too.
func (p *Principal) Allow(o Operation, t parley.Topic) error {
	if !p.Known() {
		return ErrUnknown
	}
	if owner, _ := t.Inbox(); owner != "" {
		return p.allowInbox(o, t, owner)
	}
	if t.Reserved() && o != Admin {
		return ErrReserved
	}
	if p.Open || p.granted(o, t) {
		return nil
	}
	return denial(o)
}

// denial is the refusal of an operation for which a grant is missing.
type denial Operation

func (d denial) Error() string {
	return "no grant for " + Operation(d).String() + " covers this: " + parley.ErrForbidden.Error()
}

func (denial) Unwrap() error { return parley.ErrForbidden }

func (p *Principal) allowInbox(o Operation, t parley.Topic, owner string) error {
	allowed := false
	switch o {
	case Subscribe, History:
		if p.User == "" || owner != p.User {
			return ErrReserved
		}
		allowed = !p.scoped || p.granted(o, t)
	case Send:
		allowed = p.User != "" && (p.Open || p.granted(Send, t))
	case Admin:
		allowed = p.granted(Admin, t)
	case Publish, Presence, All:
		return ErrReserved
	}
	if allowed {
		return nil
	}
	return denial(o)
}

func (p *Principal) granted(o Operation, t parley.Topic) bool {
	for _, g := range p.Grants {
		if g.Operations&o != 0 && g.covers(t, p.User) {
			return true
		}
	}
	return false
}
