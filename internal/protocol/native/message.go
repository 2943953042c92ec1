package native

import (
	"encoding/base64"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/protocol/jsonrpc"
)

// encodeMessages is what all subscribers of a batch share: its messages without
// the brackets of the array.
func encodeMessages(messages []*parley.Message) []byte {
	const names = 128 // of the members that most messages have, and the numbers
	size := 0
	for _, m := range messages {
		size += names + len(m.Topic) + len(m.ID) + len(m.Header) + len(m.Body)
	}
	return appendMessages(make([]byte, 0, size), messages)
}

func appendMessages(dst []byte, messages []*parley.Message) []byte {
	for i, m := range messages {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendMessage(dst, m)
	}
	return dst
}

func appendMessage(dst []byte, m *parley.Message) []byte {
	dst = append(dst, `{"topic":`...)
	dst = jsonrpc.AppendString(dst, string(m.Topic))
	dst = append(dst, `,"seq":`...)
	dst = appendSeq(dst, m.Seq)
	dst = append(dst, `,"time":`...)
	dst = appendTime(dst, m.Time)
	dst = appendOptional(dst, `,"id":`, m.ID)
	dst = appendOptional(dst, `,"user":`, m.Sender.User)
	dst = appendOptional(dst, `,"device":`, m.Sender.Device)
	dst = appendHeader(dst, m.Header)
	if !m.Expires.IsZero() {
		dst = append(dst, `,"expires":`...)
		dst = appendTime(dst, m.Expires)
	}
	if len(m.Filters) > 0 {
		dst = append(dst, `,"filters":`...)
		dst = appendObject(dst, m.Filters)
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

func appendOptional(dst []byte, name, value string) []byte {
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
		return appendOptional(dst, `,"header":`, line)
	}
	dst = append(dst, `,"header_data":`...)
	return appendBase64(dst, []byte(line))
}

func appendBase64(dst, p []byte) []byte {
	dst = append(dst, '"')
	dst = base64.StdEncoding.AppendEncode(dst, p)
	return append(dst, '"')
}

func appendSeq(dst []byte, s parley.Seq) []byte {
	return strconv.AppendUint(dst, uint64(s), 10)
}

// appendTime appends t in UTC as RFC 3339 with six digits of a second. It is
// written out because time.Format takes as long as the rest of a message.
func appendTime(dst []byte, t time.Time) []byte {
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
