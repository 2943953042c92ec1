package jsonform

import (
	"fmt"
	"slices"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/broker"
	"github.com/parley-im/parley/internal/protocol/jsonrpc"
)

// Letter is one message to users, as a client writes it.
type Letter struct {
	To       jsonrpc.Strings   `json:"to"`
	Text     jsonrpc.Text      `json:"text"`
	Data     []byte            `json:"data"`
	ID       *string           `json:"id"`
	Headers  map[string]string `json:"headers"`
	Expires  *time.Time        `json:"expires"`
	Receipts bool              `json:"receipts"`
}

// Given reports whether any member is there.
func (l *Letter) Given() bool {
	return l.To != nil || l.Text != nil || l.Data != nil || l.ID != nil || l.Headers != nil || l.Expires != nil || l.Receipts
}

// Fill checks l, which may have at most that many recipients, and fills to with
// it. The error wraps parley.ErrInvalid.
func (l *Letter) Fill(to *broker.Letter, recipients int) error {
	switch {
	case len(l.To) == 0:
		return invalid("to is missing")
	case len(l.To) > recipients:
		return invalid(fmt.Sprintf("to has more than %d recipients", recipients))
	case l.Text != nil && l.Data != nil:
		return invalid("a body is either text or data")
	}
	to.To = make([]string, len(l.To))
	for i, name := range l.To {
		user, err := parley.ParseUser(name)
		if err != nil {
			return err
		}
		if slices.Contains(to.To[:i], user) {
			return invalid(fmt.Sprintf("to names %q twice", user))
		}
		to.To[i] = user
	}
	to.Receipts = l.Receipts
	m := &to.Message
	m.Body = l.Data
	if l.Text != nil {
		m.Body = l.Text
	}
	if l.ID != nil {
		if !ValidID(*l.ID) {
			return invalid("id must have 1 to 255 bytes and no control characters")
		}
		m.ID = *l.ID
	}
	var err error
	if m.Header, err = HeaderOf(l.Headers); err != nil {
		return err
	}
	if l.Expires != nil {
		if !l.Expires.After(time.Now()) {
			return invalid("expires is in the past")
		}
		m.Expires = l.Expires.UTC().Truncate(time.Microsecond)
	}
	return nil
}
