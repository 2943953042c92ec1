package broker

import (
	"errors"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/account"
)

// Watch is told what the client of one session does, by the goroutines that make
// its requests. A nil Watch, and each nil function, is told nothing.
type Watch struct {
	// Spend counts a message with a body of so many bytes before it is stored: a
	// publish to a topic, or with account.Send a letter to an inbox. An error
	// refuses it.
	Spend func(who *account.Principal, o account.Operation, t parley.Topic, bytes int) error
	// Over notes a message that was refused with err because its sender has too
	// much stored. It is called by the broker, which waits for it.
	Over func(who *account.Principal, err error)
	// Denied notes what who may not do.
	Denied func(who *account.Principal, o account.Operation, t parley.Topic)
}

// spend refuses what is too much.
func (w *Watch) spend(who *account.Principal, o account.Operation, m *parley.Message, t parley.Topic) error {
	if w == nil || w.Spend == nil {
		return nil
	}
	return w.Spend(who, o, t, len(m.Body))
}

// note tells of err if that is a denial, and returns it.
func (w *Watch) note(who *account.Principal, o account.Operation, t parley.Topic, err error) error {
	if err != nil && w != nil && w.Denied != nil && errors.Is(err, parley.ErrForbidden) {
		w.Denied(who, o, t)
	}
	return err
}
