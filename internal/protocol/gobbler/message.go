package gobbler

import (
	"strconv"
	"strings"
	"time"

	"github.com/parley-im/parley"
)

// encodeBatch is the framed messages, one frame each.
func (c *Codec) encodeBatch(messages []*parley.Message) []byte {
	// The punctuation, the numbers and a frame's header of an ordinary message;
	// append grows dst for one that needs more.
	const rest = 48
	size := 0
	for _, m := range messages {
		size += rest + len(m.Topic) + len(m.Sender.User) + len(m.Sender.Device) + len(m.Header) + len(m.Body)
	}
	dst := make([]byte, 0, size)
	for _, m := range messages {
		if c.dialect == Documented {
			dst = c.frame(dst, appendDocumented(c.scratch[:0], m))
			continue
		}
		dst = c.frame(dst, appendMessage(c.scratch[:0], m))
	}
	return dst
}

// appendMessage appends one message of the deployed dialect: a line of eight fields, and the header and
// the body as far as there are any.
//
//	path,id,user,application,filter,expires,time,node
func appendMessage(dst []byte, m *parley.Message) []byte {
	dst = append(dst, m.Topic...)
	dst = append(dst, ',')
	dst = strconv.AppendUint(dst, uint64(m.Seq), 10)
	dst = append(dst, ',')
	dst = appendField(dst, m.Sender.User)
	dst = append(dst, ',')
	dst = appendField(dst, m.Sender.Device)
	dst = append(dst, ',')
	dst = appendFilter(dst, m.Filters)
	dst = append(dst, ',')
	if !m.Expires.IsZero() {
		dst = m.Expires.UTC().AppendFormat(dst, time.RFC3339Nano)
	}
	dst = append(dst, ',')
	dst = strconv.AppendInt(dst, m.Time.Unix(), 10)
	dst = append(dst, ",0"...) // a node's number means nothing to anyone here
	if m.Header == "" && len(m.Body) == 0 {
		return dst
	}
	dst = append(dst, '\n')
	dst = append(dst, m.Header...)
	if len(m.Body) == 0 {
		return dst
	}
	dst = append(dst, '\n')
	return append(dst, m.Body...)
}

// appendDocumented appends one message of the documented dialect: a line of six
// fields, the header and the body, with both of the line feeds whether there are
// any or not.
//
//	path,id,user,application,publisher's id,time
func appendDocumented(dst []byte, m *parley.Message) []byte {
	dst = append(dst, m.Topic...)
	dst = append(dst, ',')
	dst = strconv.AppendUint(dst, uint64(m.Seq), 10)
	dst = append(dst, ',')
	dst = appendField(dst, m.Sender.User)
	dst = append(dst, ',')
	dst = appendField(dst, m.Sender.Device)
	dst = append(dst, ',')
	dst = appendField(dst, m.ID)
	dst = append(dst, ',')
	dst = strconv.AppendInt(dst, m.Time.Unix(), 10)
	dst = append(dst, '\n')
	dst = append(dst, m.Header...)
	dst = append(dst, '\n')
	return append(dst, m.Body...)
}

// appendField appends the name of a user, a device or a message. Clients split
// the line at every comma and know no escape, so that a comma or an LF in such a
// name, which a client of another protocol may have given, is percent-encoded.
func appendField(dst []byte, s string) []byte {
	if strings.IndexByte(s, ',') < 0 && strings.IndexByte(s, '\n') < 0 {
		return append(dst, s...)
	}
	return append(dst, strings.NewReplacer(",", "%2C", "\n", "%0A").Replace(s)...)
}

// appendFilter appends the filter as JSON if there is exactly one and it has no
// comma; otherwise clients would find too many fields and drop the message. They
// lose nothing: the server has already chosen who receives it.
func appendFilter(dst []byte, filters map[string]string) []byte {
	if len(filters) != 1 {
		return dst
	}
	for k, v := range filters {
		if strings.IndexByte(k, ',') >= 0 || strings.IndexByte(v, ',') >= 0 {
			return dst
		}
		dst = append(dst, '{')
		dst = appendQuoted(dst, k)
		dst = append(dst, ':')
		dst = appendQuoted(dst, v)
		dst = append(dst, '}')
	}
	return dst
}
