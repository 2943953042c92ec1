package jsonform

import "github.com/parley-im/parley/internal/broker"

// ByeName is what a client reads of why the server ends a session. The names
// never change their meaning.
func ByeName(code broker.ByeCode) string {
	switch code {
	case broker.ByeShutdown:
		return "shutdown"
	case broker.ByeSlow:
		return "slow"
	case broker.ByeIdle:
		return "idle"
	case broker.ByeProtocol:
		return "protocol"
	case broker.ByeTooBig:
		return "too_big"
	case broker.ByeOverload:
		return "overload"
	case broker.ByeInternal:
		return "internal"
	case broker.ByeUnacceptable:
		return "unacceptable"
	case broker.ByeExpired:
		return "expired"
	case broker.ByeRevoked:
		return "revoked"
	case broker.ByeReplaced:
		return "replaced"
	case broker.ByeUnauthenticated:
		return "unauthenticated"
	}
	return "internal"
}
