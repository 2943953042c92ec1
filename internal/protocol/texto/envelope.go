package texto

import (
	"errors"
	"strings"

	"github.com/parley-im/parley/internal/protocol/jsonrpc"
)

// kind is what an envelope is.
type kind string

const (
	kindRegistration kind = "registration"
	kindConnection   kind = "connection"
	kindSend         kind = "send"
	kindReceive      kind = "receive"
	kindAck          kind = "ack"
	kindError        kind = "error"
)

// envelope is what a client sent. To and text are of a send.
type envelope struct {
	client, id UUID
	kind       kind
	to         UUID
	text       string
}

var errSyntax = errors.New("no message of this protocol")

// parseEnvelope reads what a client sent as the original server does: the first
// JSON object of a message, with names in any case, of which the last counts.
func parseEnvelope(p []byte) (envelope, error) {
	var e envelope
	var payload []byte
	err := jsonrpc.Members(p, func(name string, value []byte) (err error) {
		switch {
		case strings.EqualFold(name, "client_id"):
			e.client, err = uuidOf(value)
		case strings.EqualFold(name, "id"):
			e.id, err = uuidOf(value)
		case strings.EqualFold(name, "kind"):
			var text string
			text, err = textOf(value)
			e.kind = kind(text)
		case strings.EqualFold(name, "data"):
			payload = append(payload[:0], value...)
		}
		return err
	})
	if err != nil {
		return envelope{}, err
	}
	switch e.kind {
	case kindRegistration, kindAck:
	case kindSend:
		err = e.parseSend(payload)
	case kindReceive:
		err = checkMembers(payload, "sender_id", "text")
	case kindConnection:
		err = checkMembers(payload, "client_id")
	case kindError:
		err = checkMembers(payload, "", "code", "description")
	default:
		err = errSyntax
	}
	return e, err
}

// parseSend reads the data of a send. Members may be missing.
func (e *envelope) parseSend(payload []byte) error {
	return jsonrpc.Members(payload, func(name string, value []byte) (err error) {
		switch {
		case strings.EqualFold(name, "receiver_id"):
			e.to, err = uuidOf(value)
		case strings.EqualFold(name, "text"):
			e.text, err = textOf(value)
		}
		return err
	})
}

// checkMembers checks data of which nothing is used: an object in which the
// member id, unless that is empty, is a UUID, and texts are texts.
func checkMembers(payload []byte, id string, texts ...string) error {
	return jsonrpc.Members(payload, func(name string, value []byte) (err error) {
		if id != "" && strings.EqualFold(name, id) {
			_, err = uuidOf(value)
		}
		for _, text := range texts {
			if strings.EqualFold(name, text) {
				_, err = textOf(value)
			}
		}
		return err
	})
}

// uuidOf reads a JSON value that is a UUID, or null for the nil UUID.
func uuidOf(value []byte) (UUID, error) {
	if value[0] == 'n' {
		return UUID{}, nil
	}
	const longest = 6 * (uuidText + len("urn:uuid:")) // each letter escaped
	if len(value) > longest+2 {
		return UUID{}, errSyntax
	}
	text, ok := jsonrpc.LenientText(value)
	u, valid := parseUUID(text)
	if !ok || !valid {
		return UUID{}, errSyntax
	}
	return u, nil
}

// textOf reads a JSON value that is a string, or null for the empty one.
func textOf(value []byte) (string, error) {
	if value[0] == 'n' {
		return "", nil
	}
	text, ok := jsonrpc.LenientText(value)
	if !ok {
		return "", errSyntax
	}
	return text, nil
}
