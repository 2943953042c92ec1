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

// appendHead appends an envelope up to its data; client is who receives it.
func appendHead(dst []byte, client, id UUID, k kind) []byte {
	dst = client.appendTo(append(dst, `{"client_id":"`...))
	dst = id.appendTo(append(dst, `","id":"`...))
	dst = append(dst, `","kind":"`...)
	dst = append(dst, k...)
	return append(dst, `","data":`...)
}

// end closes an envelope. The line feed belongs to it.
const end = "}\n"

func appendConnection(dst []byte, client, id UUID) []byte {
	dst = appendHead(dst, client, id, kindConnection)
	dst = client.appendTo(append(dst, `{"client_id":"`...))
	return append(dst, `"}`+end...)
}

func appendAck(dst []byte, client, id UUID) []byte {
	return append(appendHead(dst, client, id, kindAck), "null"+end...)
}

func appendFault(dst []byte, client, id UUID, f fault) []byte {
	dst = appendHead(dst, client, id, kindError)
	dst = appendText(append(dst, `{"code":`...), string(f))
	dst = appendText(append(dst, `,"description":`...), f.description())
	return append(dst, `}`+end...)
}

func appendReceive(dst []byte, client, id, sender UUID, text string) []byte {
	dst = appendHead(dst, client, id, kindReceive)
	dst = sender.appendTo(append(dst, `{"sender_id":"`...))
	dst = appendText(append(dst, `","text":`...), text)
	return append(dst, `}`+end...)
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
