package bench

import (
	"context"
	"strings"
)

// The dialects that users may speak.
const (
	nativeDialect = "native"
	titanDialect  = "titan"
)

// dialects names them, for people.
func dialects() string { return strings.Join([]string{nativeDialect, titanDialect}, "|") }

// dialect is how the users of a load speak.
type dialect struct {
	receiver func(ctx context.Context, i int) (*receiver, error)
	sender   func(ctx context.Context, i int) (*publisher, error)
	// settled finds out whether the server holds everything of receiver i for
	// acknowledged, where it does not confirm that.
	settled func(ctx context.Context, i int) error
}

func (l *load) dialect() dialect {
	if l.cfg.Dialect == titanDialect {
		return dialect{l.titanReceiver, l.titanSender, l.titanSettled}
	}
	return dialect{l.receiver, l.sender, func(context.Context, int) error { return nil }}
}
