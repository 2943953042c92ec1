package broker

import (
	"strings"

	"github.com/parley-im/parley"
)

// ReceiptOf tells whether m, of an inbox, is a receipt. Its ID is then that of
// the message that it is about, and its Seq field in the body is where that is in
// the recipient's inbox.
func ReceiptOf(m *parley.Message) ReceiptKind {
	switch {
	case !strings.HasPrefix(string(m.Topic), "/$inbox/"):
	case strings.HasSuffix(string(m.Topic), deliveredSegment):
		return Delivered
	case strings.HasSuffix(string(m.Topic), readSegment):
		return Read
	}
	return NoReceipt
}

// asks reports whether the sender of m, of an inbox, wants receipts.
func asks(m *parley.Message) bool { return strings.HasSuffix(string(m.Topic), asksSegment) }
