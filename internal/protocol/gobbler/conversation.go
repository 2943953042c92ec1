package gobbler

import (
	"github.com/rs/xid"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/broker"
	"github.com/parley-im/parley/internal/protocol"
	"github.com/parley-im/parley/internal/wire"
)

// Conversation is what protocol.Serve needs for a new connection of that user
// (see UserID) whose client speaks dialect d.
//
// The device of its identity is what this protocol calls the application id: an
// xid, new for each connection, so that connections of one user are strangers to
// each other.
func Conversation(conn wire.Conn, b *broker.Broker, user string, d Dialect) protocol.Conversation {
	id := parley.Identity{User: user, Device: xid.New().String()}
	return protocol.Conversation{
		Conn:     conn,
		Codec:    New(conn, id, d),
		Broker:   b,
		Identity: id,
		Greet:    true,
	}
}
