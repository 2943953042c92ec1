package httpapi

import (
	"context"
	"encoding/json"
	"io"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/account"
	"github.com/parley-im/parley/internal/backend"
	"github.com/parley-im/parley/internal/broker"
	"github.com/parley-im/parley/internal/protocol/jsonform"
)

// ExportMessages writes what is stored of a user's messages, as the second part of
// account.Directory.Export: the read marker, the cursors, the inbox and the dead
// letters. It holds a page at a time.
func ExportMessages(ctx context.Context, b *broker.Broker, user string, w io.Writer) error {
	for _, part := range []func(context.Context, *broker.Broker, string, io.Writer) error{
		exportMarker, exportCursors, exportInbox, exportDeadLetters,
	} {
		if err := part(ctx, b, user, w); err != nil {
			return err
		}
	}
	return nil
}

// line writes v as an object whose first member is its kind.
func line(w io.Writer, kind string, v any) error {
	p, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return objectLine(w, kind, p)
}

// objectLine writes a JSON object, which has a member, with its kind.
func objectLine(w io.Writer, kind string, p []byte) error {
	out := append([]byte(`{"kind":"`+kind+`",`), p[1:]...)
	_, err := w.Write(append(out, '\n'))
	return err
}

func owns(user string) *account.Principal {
	return &account.Principal{Identity: parley.Identity{User: user}}
}

func exportMarker(ctx context.Context, b *broker.Broker, user string, w io.Writer) error {
	m, err := b.Unread(ctx, owns(user))
	if err != nil || m.Seq == 0 {
		return err
	}
	return line(w, "read_marker", ReadMarker{m.Seq, m.Unread})
}

func exportCursors(ctx context.Context, b *broker.Broker, user string, w io.Writer) error {
	var all []Durable // no iterator is held while w is slow
	for c, err := range b.Consumers(ctx, user) {
		if err != nil {
			return err
		}
		all = append(all, durableOf(c))
	}
	for i := range all {
		if err := line(w, "cursor", &all[i]); err != nil {
			return err
		}
	}
	return nil
}

func exportInbox(ctx context.Context, b *broker.Broker, user string, w io.Writer) error {
	q := backend.Query{Topic: parley.InboxTopic(user), Now: time.Unix(0, 0)} // what has expired is stored still
	for {
		page, err := b.History(ctx, owns(user), q)
		if err != nil {
			return err
		}
		for _, m := range page.Messages {
			if err := objectLine(w, "message", jsonform.AppendMessage(nil, m)); err != nil {
				return err
			}
		}
		if q.After = page.Next; !page.More {
			return nil
		}
	}
}

func exportDeadLetters(ctx context.Context, b *broker.Broker, user string, w io.Writer) error {
	const limit = 100
	for after := parley.Seq(0); ; {
		letters, next, err := b.DeadLetters(ctx, user, after, limit)
		if err != nil {
			return err
		}
		for i := range letters {
			if err := line(w, "dead_letter", letterOf(&letters[i])); err != nil {
				return err
			}
		}
		if after = next; next == 0 {
			return nil
		}
	}
}
