package wire

import (
	"bytes"
	"net/http"
	"slices"
	"strings"
)

const (
	extensionHeader = "Sec-Websocket-Extensions" // in its canonical form
	// maxOffers bounds the bytes of a client's offers that are looked at; a
	// browser's have about 50.
	maxOffers = 4 << 10

	deflateName = "permessage-deflate"
	// deflateAnswer agrees to an offer of compression: neither side keeps what
	// it has sent, so that a connection at rest holds no window of 32 KiB.
	deflateAnswer = deflateName + "; server_no_context_takeover; client_no_context_takeover"
	serverBits    = "server_max_window_bits"
	clientBits    = "client_max_window_bits"
	fullWindow    = "15" // the bits of the window that we use
)

// agreeToDeflate answers what a client offers (RFC 6455 section 9.1) with the
// first offer of permessage-deflate that can be honoured, or with nothing. Too
// long a list is not looked at; one that is malformed is refused.
func agreeToDeflate(h http.Header) (answer string, err error) {
	lines := h.Values(extensionHeader)
	total := 0
	for _, line := range lines {
		total += len(line)
	}
	if total > maxOffers {
		return "", nil
	}
	for _, line := range lines {
		s := &scanner{rest: line}
		for s.next() {
			if agreed := s.offer(); answer == "" {
				answer = agreed
			}
		}
		if s.malformed {
			return "", &refusal{http.StatusBadRequest, extensionHeader + " is malformed"}
		}
	}
	return answer, nil
}

// scanner reads a list of offers. After something malformed it has nothing
// more to read.
type scanner struct {
	rest      string
	malformed bool
}

// next tells whether an offer follows. Elements of the list may be empty.
func (s *scanner) next() bool {
	s.rest = strings.TrimLeft(s.rest, ", \t")
	return s.rest != ""
}

// offer reads one offer and what ends it, and returns the answer to it: none
// where it is not ours or cannot be honoured.
func (s *scanner) offer() (answer string) {
	honoured := s.token() == deflateName
	answer = deflateAnswer
	var seen []string
	for s.eat(';') {
		name, value := s.parameter()
		honoured = honoured && !slices.Contains(seen, name) && honours(name, value)
		if honoured {
			seen = append(seen, name)
		}
		if name == serverBits {
			answer += "; " + serverBits + "=" + fullWindow // in the answer to who asks
		}
	}
	if s.rest != "" && !s.eat(',') {
		s.fail()
	}
	if !honoured {
		return ""
	}
	return answer
}

// honours tells whether a parameter is one that an offer may have (RFC 7692
// section 7.1), and can be kept to. An empty value is none.
func honours(name, value string) bool {
	switch name {
	case "server_no_context_takeover", "client_no_context_takeover":
		return value == ""
	case clientBits:
		switch value {
		// A hint: any window can be read.
		case "", "8", "9", "10", "11", "12", "13", "14", fullWindow:
			return true
		}
	case serverBits:
		return value == fullWindow
	}
	return false
}

// parameter reads a name and, behind a sign, a value: a token, or one in
// quotes.
func (s *scanner) parameter() (name, value string) {
	name = s.token()
	if !s.eat('=') {
		return name, ""
	}
	if !s.eat('"') {
		return name, s.token()
	}
	return name, s.quoted()
}

// quoted reads up to the closing quote. What is in quotes must be a token, too.
func (s *scanner) quoted() string {
	var value []byte
	for i := 0; i < len(s.rest); i++ {
		switch c := s.rest[i]; c {
		case '"':
			s.rest = s.rest[i+1:]
			if len(value) == 0 || bytes.ContainsFunc(value, notToken) {
				s.fail()
			}
			return string(value)
		case '\\': // takes the next character as it is
			if i++; i < len(s.rest) {
				value = append(value, s.rest[i])
			}
		default:
			value = append(value, c)
		}
	}
	s.fail()
	return ""
}

func (s *scanner) token() string {
	s.space()
	end := strings.IndexFunc(s.rest, notToken)
	if end < 0 {
		end = len(s.rest)
	}
	token := s.rest[:end]
	s.rest = s.rest[end:]
	if token == "" {
		s.fail()
	}
	return token
}

// eat takes c if it comes next.
func (s *scanner) eat(c byte) bool {
	s.space()
	if s.rest == "" || s.rest[0] != c {
		return false
	}
	s.rest = s.rest[1:]
	return true
}

func (s *scanner) space() { s.rest = strings.TrimLeft(s.rest, " \t") }

func (s *scanner) fail() { s.rest, s.malformed = "", true }

// notToken tells what cannot be in a token (RFC 9110 section 5.6.2).
func notToken(r rune) bool {
	alphanumeric := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
	return !alphanumeric && !strings.ContainsRune("!#$%&'*+-.^_`|~", r)
}
