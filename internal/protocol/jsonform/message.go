package jsonform

import (
	"encoding/base64"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/broker"
	"github.com/parley-im/parley/internal/protocol/jsonrpc"
)

// Messages is a batch as all who receive it share it: its messages without the
// brackets of the array.
func Messages(messages []*parley.Message) []byte {
	const names = 128 // of the members that most messages have, and the numbers
	size := 0
	for _, m := range messages {
		size += names + len(m.Topic) + len(m.ID) + len(m.Header) + len(m.Body)
	}
	return AppendMessages(make([]byte, 0, size), messages)
}

// AppendMessages appends messages with commas between them.
func AppendMessages(dst []byte, messages []*parley.Message) []byte {
	for i, m := range messages {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = AppendMessage(dst, m)
	}
	return dst
}

// AppendMessage appends one message as an object. The body is text where it is
// UTF-8, and otherwise data in base64.
func AppendMessage(dst []byte, m *parley.Message) []byte {
	dst = append(dst, `{"topic":`...)
	dst = jsonrpc.AppendString(dst, string(m.Topic))
	dst = append(dst, `,"seq":`...)
	dst = AppendSeq(dst, m.Seq)
	dst = append(dst, `,"time":`...)
	dst = AppendTime(dst, m.Time)
	dst = AppendOptional(dst, `,"id":`, m.ID)
	dst = AppendOptional(dst, `,"user":`, m.Sender.User)
	dst = AppendOptional(dst, `,"device":`, m.Sender.Device)
	if m.Topic.Reserved() { // spares who has no inbox the question
		dst = AppendOptional(dst, `,"receipt":`, receipt(m))
	}
	dst = appendHeader(dst, m.Header)
	if !m.Expires.IsZero() {
		dst = append(dst, `,"expires":`...)
		dst = AppendTime(dst, m.Expires)
	}
	if len(m.Filters) > 0 {
		dst = append(dst, `,"filters":`...)
		dst = AppendObject(dst, m.Filters)
	}
	if utf8.Valid(m.Body) {
		dst = append(dst, `,"text":`...)
		dst = jsonrpc.AppendText(dst, m.Body)
	} else {
		dst = append(dst, `,"data":`...)
		dst = appendBase64(dst, m.Body)
	}
	return append(dst, '}')
}

// receipt is what m, if it is a receipt, says of the message that has its id.
func receipt(m *parley.Message) string {
	switch broker.ReceiptOf(m) {
	case broker.Delivered:
		return "delivered"
	case broker.Read:
		return "read"
	case broker.NoReceipt:
	}
	return ""
}

// AppendOptional appends a member whose value is a string, unless that is empty;
// name is all that stands before the value.
func AppendOptional(dst []byte, name, value string) []byte {
	if value == "" {
		return dst
	}
	dst = append(dst, name...)
	return jsonrpc.AppendString(dst, value)
}

// appendHeader hands the line on in the most useful form that keeps every byte:
// the object that it is, or a string, or for what is no text, base64.
func appendHeader(dst []byte, line string) []byte {
	switch {
	case line == "":
		return dst
	case jsonrpc.IsStrings(line):
		dst = append(dst, `,"headers":`...)
		return append(dst, line...)
	case utf8.ValidString(line):
		return AppendOptional(dst, `,"header":`, line)
	}
	dst = append(dst, `,"header_data":`...)
	return appendBase64(dst, []byte(line))
}

func appendBase64(dst, p []byte) []byte {
	dst = append(dst, '"')
	dst = base64.StdEncoding.AppendEncode(dst, p)
	return append(dst, '"')
}

// AppendSeq appends s as a number.
func AppendSeq(dst []byte, s parley.Seq) []byte {
	return strconv.AppendUint(dst, uint64(s), 10)
}

// AppendTime appends t in UTC as RFC 3339 with six digits of a second. It is
// written out because time.Format takes as long as the rest of a message.
func AppendTime(dst []byte, t time.Time) []byte {
	t = t.UTC()
	year, month, day := t.Date()
	hour, minute, second := t.Clock()
	dst = append(dst, '"')
	dst = appendDigits(dst, year, 4)
	dst = append(dst, '-')
	dst = appendDigits(dst, int(month), 2)
	dst = append(dst, '-')
	dst = appendDigits(dst, day, 2)
	dst = append(dst, 'T')
	dst = appendDigits(dst, hour, 2)
	dst = append(dst, ':')
	dst = appendDigits(dst, minute, 2)
	dst = append(dst, ':')
	dst = appendDigits(dst, second, 2)
	dst = append(dst, '.')
	dst = appendDigits(dst, t.Nanosecond()/1000, 6)
	return append(dst, 'Z', '"')
}

// appendDigits appends n with leading zeros; n has at most width digits.
func appendDigits(dst []byte, n, width int) []byte {
	for range width {
		dst = append(dst, '0')
	}
	for i := len(dst) - 1; n > 0; i-- {
		dst[i] = "0123456789"[n%10]
		n /= 10
	}
	return dst
}
