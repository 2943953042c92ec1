package texto

import (
	"strings"

	"github.com/parley-im/parley/internal/protocol/jsonrpc"
)

// Channels is the pattern of the Redis channels that nodes publish on, one for
// each recipient.
const Channels = "texto:*"

// channel is where nodes publish what goes to a session.
func channel(to UUID) string { return "texto:" + to.String() }

// letter is a message between nodes.
type letter struct {
	from, to UUID
	text     string
}

// encode is l as the nodes publish it: compact, with the members in this order.
func (l *letter) encode() []byte {
	dst := append(make([]byte, 0, len(l.text)+2*uuidText+64), `{"SenderID":"`...)
	dst = append(l.from.appendTo(dst), `","RecipientID":"`...)
	dst = append(l.to.appendTo(dst), `","Text":`...)
	return append(appendText(dst, l.text), '}')
}

// parseLetter reads what a node has published. Who it is for is what it says,
// whatever the channel.
func parseLetter(p []byte) (letter, error) {
	var l letter
	err := jsonrpc.Members(p, func(name string, value []byte) (err error) {
		switch {
		case strings.EqualFold(name, "SenderID"):
			l.from, err = uuidOf(value)
		case strings.EqualFold(name, "RecipientID"):
			l.to, err = uuidOf(value)
		case strings.EqualFold(name, "Text"):
			l.text, err = textOf(value)
		}
		return err
	})
	return l, err
}
