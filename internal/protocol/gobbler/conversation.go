package gobbler

import (
	"github.com/rs/xid"

	"github.com/parley-im/parley/internal/account"
	"github.com/parley-im/parley/internal/broker"
	"github.com/parley-im/parley/internal/protocol"
	"github.com/parley-im/parley/internal/wire"
)

// Conversation is what protocol.Serve needs for a new connection of who (see
// Caller) whose client speaks dialect d.
//
// The device of its identity is what this protocol calls the application id: an
// xid, new for each connection, so that connections of one user are strangers to
// each other.
func Conversation(conn wire.Conn, b *broker.Broker, who *account.Principal, d Dialect) protocol.Conversation {
	own := *who
	own.Device = xid.New().String()
	id := own.Identity
	return protocol.Conversation{
		Conn:      conn,
		Codec:     New(conn, id, d),
		Broker:    b,
		Identity:  id,
		Principal: &own,
		Greet:     true,
	}
}
