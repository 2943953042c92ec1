package texto

import "unicode/utf8"

// fault is the code of an error that a client is told.
type fault string

const (
	faultSyntax fault = "ESYNTAX"
	faultKind   fault = "EKIND"
	faultClient fault = "ECID"
	faultBroker fault = "EBROKER"
)

// description is what clients show of a fault, in the words of the original
// server.
func (f fault) description() string {
	switch f {
	case faultSyntax:
		return "Unable to process the message due to a syntax error."
	case faultKind:
		return "Invalid message kind received."
	case faultClient:
		return "The submitted client ID doesn't match the current session."
	case faultBroker:
		return "Unable to send the message to the recipient."
	}
	return ""
}

// head begins an envelope, up to its data; client is who receives it.
func head(client, id UUID, k kind) []byte {
	const room = 256
	dst := append(make([]byte, 0, room), `{"client_id":"`...)
	dst = append(client.appendTo(dst), `","id":"`...)
	dst = append(id.appendTo(dst), `","kind":"`...)
	dst = append(dst, k...)
	return append(dst, `","data":`...)
}

// end closes an envelope. The line feed belongs to it.
const end = "}\n"

func connectionOf(client, id UUID) []byte {
	dst := append(head(client, id, kindConnection), `{"client_id":"`...)
	return append(client.appendTo(dst), `"}`+end...)
}

func ackOf(client, id UUID) []byte {
	return append(head(client, id, kindAck), "null"+end...)
}

func errorOf(client, id UUID, f fault) []byte {
	dst := append(head(client, id, kindError), `{"code":`...)
	dst = append(appendText(dst, string(f)), `,"description":`...)
	return append(appendText(dst, f.description()), `}`+end...)
}

func receiveOf(client, id UUID, l *letter) []byte {
	dst := append(head(client, id, kindReceive), `{"sender_id":"`...)
	dst = append(l.from.appendTo(dst), `","text":`...)
	return append(appendText(dst, l.text), `}`+end...)
}

// appendText appends a JSON string as the original server writes it: safe to
// stand in HTML, and other characters as they are.
func appendText(dst []byte, s string) []byte {
	const digits = "0123456789abcdef"
	dst = append(dst, '"')
	done := 0 // how much of s is appended
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			if c >= ' ' && c != '"' && c != '\\' && c != '<' && c != '>' && c != '&' {
				i++
				continue
			}
			dst = append(dst, s[done:i]...)
			switch c {
			case '"', '\\':
				dst = append(dst, '\\', c)
			case '\n':
				dst = append(dst, `\n`...)
			case '\r':
				dst = append(dst, `\r`...)
			case '\t':
				dst = append(dst, `\t`...)
			default:
				dst = append(dst, '\\', 'u', '0', '0', digits[c>>4], digits[c&15])
			}
			i++
			done = i
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		replacement := ""
		switch {
		case r == utf8.RuneError && n == 1:
			replacement = `\ufffd`
		case r == '\u2028':
			replacement = `\u2028`
		case r == '\u2029':
			replacement = `\u2029`
		}
		if replacement != "" {
			dst = append(append(dst, s[done:i]...), replacement...)
			done = i + n
		}
		i += n
	}
	return append(append(dst, s[done:]...), '"')
}
