package gobbler

import "unicode/utf8"

// appendQuoted appends s as a JSON string (RFC 8259 section 7), with U+FFFD for
// what is not UTF-8.
func appendQuoted(dst []byte, s string) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	start := 0 // of what is copied as it is
	for i := 0; i < len(s); {
		b := s[i]
		if b >= utf8.RuneSelf {
			r, n := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && n == 1 {
				dst = append(append(dst, s[start:i]...), "\ufffd"...)
				start = i + 1
			}
			i += n
			continue
		}
		switch {
		case b == '"' || b == '\\':
			dst = append(append(dst, s[start:i]...), '\\', b)
			start = i + 1
		case b < ' ':
			dst = append(append(dst, s[start:i]...), '\\', 'u', '0', '0', hex[b>>4], hex[b&15])
			start = i + 1
		}
		i++
	}
	return append(append(dst, s[start:]...), '"')
}
