package console

import "strings"

// The first byte of a frame that is no message.
const (
	status  = '#'
	failure = '!'
)

// render appends what is printed for one frame: a status and an empty line, an
// error, or a message.
func (o *Options) render(dst []byte, payload []byte) []byte {
	frame := string(payload)
	var text, end string
	switch {
	case frame != "" && frame[0] == status:
		text, end = frame, "\n\n"
	case frame != "" && frame[0] == failure:
		text, end = "ERROR: "+frame, "\n"
	case o.Verbose:
		text, end = frame, "\n"
	default:
		text, end = brief(frame), "\n"
	}
	if o.Clean != nil {
		text = o.Clean(text)
	}
	return append(append(dst, text...), end...)
}

// brief is a message's sender and body, and what is no message as it is. A
// message of the documented dialect has six fields in its first line; its header
// has any number of lines and ends with an empty one. That of the deployed
// dialect has eight fields, more when filters hold commas, and one line.
func brief(frame string) string {
	const user, documented = 2, 6
	meta, rest, _ := strings.Cut(frame, "\n")
	fields := strings.Split(meta, ",")
	if len(fields) <= user {
		return frame
	}
	end := "\n"
	if len(fields) == documented && !strings.HasPrefix(rest, end) {
		end = "\n\n"
	}
	_, body, _ := strings.Cut(rest, end)
	return fields[user] + ": " + body
}
