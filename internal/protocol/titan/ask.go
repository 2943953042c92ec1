package titan

import (
	"bytes"
	"fmt"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/account"
	"github.com/parley-im/parley/internal/broker"
	"github.com/parley-im/parley/internal/protocol"
	"github.com/parley-im/parley/internal/protocol/jsonrpc"
)

// The refusals of requests.
var (
	errToken       = fmt.Errorf("authenticate first: a valid token is needed: %w", parley.ErrUnauthenticated)
	errCertificate = fmt.Errorf("authenticate first: a client certificate is needed: %w", parley.ErrUnauthenticated)
	errNoParams    = &jsonrpc.Error{Code: jsonrpc.CodeInvalidParams, Message: "params are missing"}
)

// ask appends what a request asks for.
func (c *Codec) ask(dst []protocol.Request, m *jsonrpc.Message, in uint64) []protocol.Request {
	if m.Method == "auth.google" {
		return c.signIn(dst, m, in)
	}
	if c.terms.Dialect == Devastator {
		return c.askDevastator(dst, m, in)
	}
	if !c.claimed {
		token := tokenOf(m.Params)
		if token == "" {
			return c.end(dst, ref{last, 0, m.ID}, errToken)
		}
		c.claimed = true
		k := implicit
		if m.Method == "auth.jwt" {
			k = jwt
		}
		dst = append(dst, &protocol.Authenticate{
			Ref: ref{k, 0, m.ID}.String(), Credential: account.Credential{Kind: account.Token, Secret: token},
		})
		if k == jwt {
			return c.open(dst)
		}
	}
	return c.open(c.do(dst, m, ref{plain, 0, m.ID}))
}

// askDevastator is ask for the dialect whose clients have certificates.
func (c *Codec) askDevastator(dst []protocol.Request, m *jsonrpc.Message, in uint64) []protocol.Request {
	if !c.claimed {
		k := last
		if m.Method == "auth.cert" {
			k = badCert
		}
		return c.end(dst, ref{k, 0, m.ID}, errCertificate)
	}
	c.expect(in)
	r := ref{plain, in, m.ID}
	if m.Method == "msg.send" && !c.opened {
		// Its answer comes when it is durable, and deliveries begin behind that.
		r.kind = announce
	}
	n := len(dst)
	dst = c.do(dst, m, r)
	if r.kind == announce && !c.ended {
		if _, sends := dst[n].(*protocol.Send); sends {
			dst = append(dst, &protocol.Await{Told: c.told})
		}
	}
	if c.ended {
		return dst
	}
	return c.open(dst)
}

func (c *Codec) expect(in uint64) {
	if in != 0 {
		c.batches.expect(in)
	}
}

// tokenOf is the token in params, or empty.
func tokenOf(p jsonrpc.Params) string {
	var params struct{ Token, AccessToken string }
	if err := p.DecodeLoose(&params); err != nil {
		return ""
	}
	if params.Token == "" {
		return params.AccessToken
	}
	return params.Token
}

// signIn shows an ID token.
func (c *Codec) signIn(dst []protocol.Request, m *jsonrpc.Message, in uint64) []protocol.Request {
	token := tokenOf(m.Params)
	if token == "" {
		return c.end(dst, ref{google, 0, m.ID}, errToken)
	}
	c.claimed = true
	c.expect(in)
	dst = append(dst, &protocol.Authenticate{
		Ref: ref{google, in, m.ID}.String(), Credential: account.Credential{
			Kind: account.IDToken, Issuer: "google", Secret: token, WantCertificate: c.terms.Dialect == Devastator,
		},
	})
	if c.terms.Dialect == Devastator {
		return dst // its clients come back with the certificate, or go on with a private request
	}
	return c.open(dst)
}

// do appends what a request of a known client asks for.
func (c *Codec) do(dst []protocol.Request, m *jsonrpc.Message, r ref) []protocol.Request {
	titan := c.terms.Dialect == Titan
	switch m.Method {
	case "msg.send":
		return c.send(dst, m, r)
	case "ping":
		return append(dst, ack(r))
	case "auth.jwt":
		if titan {
			return append(dst, ack(r))
		}
	case "auth.cert", "msg.recv":
		if !titan {
			return append(dst, ack(r))
		}
	case "echo":
		if titan {
			if m.Params == nil {
				return c.end(dst, ref{last, 0, m.ID}, errNoParams)
			}
			return append(dst, reply(ref{echoed, 0, m.ID}, bytes.Clone(m.Params)))
		}
	case "msg.echo":
		if !titan {
			back := []byte(`""`)
			if !m.Params.Null() {
				back = bytes.Clone(m.Params)
			}
			return append(dst, reply(ref{echoed, r.batch, m.ID}, back))
		}
	}
	return append(dst, &protocol.Bad{Ref: r.String(), Err: jsonrpc.MethodNotFound()})
}

// ack is the answer to what has nothing else to say.
func ack(r ref) protocol.Request { return reply(ref{echoed, r.batch, r.id}, []byte(`"ACK"`)) }

// letter is a message as clients send it.
type letter struct {
	To      string       `json:"to"`
	Message jsonrpc.Text `json:"message"`
	Time    *time.Time   `json:"time"` // the server has a clock of its own
	TTL     *float64     `json:"ttl"`
}

// send appends the letters of a msg.send.
func (c *Codec) send(dst []protocol.Request, m *jsonrpc.Message, r ref) []protocol.Request {
	letters, err := c.letters(m.Params)
	if err != nil {
		c.ended = true
		return append(dst, &protocol.Bad{Ref: ref{last, r.batch, m.ID}.String(), Err: err, Publish: true})
	}
	if len(letters) == 0 {
		return append(dst, ack(r))
	}
	send := &protocol.Send{Send: broker.Send{Ref: r.String(), Letters: make([]broker.Letter, len(letters))}}
	for i := range letters {
		if err := c.fill(&send.Letters[i], &letters[i]); err != nil {
			return append(dst, &protocol.Bad{Ref: r.String(), Err: err, Publish: true})
		}
	}
	return append(dst, send)
}

// letters reads the params of a msg.send: an array, or in Devastator one object.
func (c *Codec) letters(p jsonrpc.Params) ([]letter, error) {
	if p == nil {
		return nil, errNoParams
	}
	if c.terms.Dialect == Devastator {
		var one letter
		if p.Null() {
			return nil, errNoParams
		}
		err := p.DecodeLoose(&one)
		return []letter{one}, err
	}
	if !p.Null() && p[0] != '[' {
		return nil, &jsonrpc.Error{Code: jsonrpc.CodeInvalidParams, Message: "params: must be an array"}
	}
	many := jsonrpc.List[letter]{Max: c.terms.Batch}
	err := p.DecodeLoose(&many)
	return many.Items, err
}

// maxTTL is the longest time in seconds that a message may be worth delivering,
// ten years.
const maxTTL = 10 * 365 * 24 * 60 * 60

// fill makes the broker's letter of a client's.
func (c *Codec) fill(l *broker.Letter, from *letter) error {
	to, err := parley.ParseUser(from.To)
	if err != nil {
		return err
	}
	l.Message.Body = from.Message
	if to == bot {
		l.Message.Header = botHeader // and without a recipient it goes to the sender
	} else {
		l.To = []string{to}
	}
	if from.TTL != nil {
		if !(*from.TTL > 0 && *from.TTL <= maxTTL) {
			return &jsonrpc.Error{Code: jsonrpc.CodeInvalidParams, Message: "ttl must be seconds, above 0 and at most ten years"}
		}
		l.Message.Expires = c.terms.Clock().Add(time.Duration(*from.TTL * float64(time.Second)))
	}
	return nil
}
