package native

import (
	"strings"
	"unicode"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/account"
	"github.com/parley-im/parley/internal/broker"
	"github.com/parley-im/parley/internal/protocol"
	"github.com/parley-im/parley/internal/protocol/jsonform"
	"github.com/parley-im/parley/internal/protocol/jsonrpc"
)

// Limits of what auth is told, in bytes.
const (
	maxSecretBytes   = 8 << 10 // a token with many claims has two or three KiB
	maxIssuerBytes   = 255
	maxDisplayBytes  = 128
	maxPlatformBytes = 64
)

type authParams struct {
	Token       *string `json:"token"`
	APIKey      *string `json:"api_key"`
	Certificate bool    `json:"certificate"`
	IDToken     *string `json:"id_token"`
	Issuer      string  `json:"issuer"`
	User        *string `json:"user"`
	Device      *string `json:"device"`
	DeviceName  string  `json:"device_name"`
	Platform    string  `json:"platform"`
}

func auth(call jsonrpc.Call) (protocol.Request, error) {
	var p authParams
	if err := call.Params.Decode(&p); err != nil {
		return nil, err
	}
	r := &protocol.Authenticate{Ref: call.ID}
	if err := p.fill(&r.Credential); err != nil {
		return nil, err
	}
	return r, nil
}

// fill makes c of p, of which exactly one member proves something.
func (p *authParams) fill(c *account.Credential) error {
	given := 0
	secret := func(kind account.CredentialKind, s *string) {
		if s != nil {
			given++
			c.Kind, c.Secret = kind, *s
		}
	}
	secret(account.Token, p.Token)
	secret(account.APIKey, p.APIKey)
	secret(account.IDToken, p.IDToken)
	if p.Certificate {
		given++
		c.Kind = account.Certificate
	}
	if p.User != nil {
		given++
		c.Kind = account.Claim
		var err error
		if c.User, err = parley.ParseUser(*p.User); err != nil {
			return err
		}
	}
	switch {
	case given != 1:
		return invalid("exactly one of token, api_key, certificate, id_token and user is needed")
	case len(c.Secret) > maxSecretBytes:
		return invalid("a token or key is longer than 8192 bytes")
	case c.Secret == "" && c.Kind != account.Certificate && c.Kind != account.Claim:
		return invalid("the token or key is empty")
	case p.Issuer != "" && c.Kind != account.IDToken:
		return invalid("issuer needs id_token")
	case len(p.Issuer) > maxIssuerBytes:
		return invalid("issuer is longer than 255 bytes")
	}
	c.Issuer = p.Issuer
	return p.describe(c)
}

// describe adds what the client says of the device.
func (p *authParams) describe(c *account.Credential) error {
	if p.Device != nil {
		var err error
		if c.Device, err = parley.ParseDevice(*p.Device); err != nil {
			return err
		}
	}
	switch {
	case len(p.DeviceName) > maxDisplayBytes || strings.ContainsFunc(p.DeviceName, unicode.IsControl):
		return invalid("device_name has at most 128 bytes and no control characters")
	case len(p.Platform) > maxPlatformBytes || strings.ContainsFunc(p.Platform, unicode.IsControl):
		return invalid("platform has at most 64 bytes and no control characters")
	}
	c.DeviceName, c.Platform = p.DeviceName, p.Platform
	return nil
}

func sessions(call jsonrpc.Call) (protocol.Request, error) {
	var p struct{}
	if err := call.Params.Decode(&p); err != nil {
		return nil, err
	}
	return &protocol.Sessions{Ref: call.ID}, nil
}

func appendAuthenticated(dst []byte, e *broker.Authenticated) []byte {
	if e.Ref == "" {
		return dst
	}
	p := e.Login.Principal
	dst = append(jsonrpc.AppendResult(dst, e.Ref), `{"user":`...)
	dst = jsonrpc.AppendString(dst, p.User)
	dst = jsonform.AppendOptional(dst, `,"device":`, p.Device)
	if !p.Expires.IsZero() {
		dst = append(dst, `,"expires":`...)
		dst = jsonform.AppendTime(dst, p.Expires)
	}
	dst = jsonform.AppendOptional(dst, `,"token":`, e.Login.Token)
	dst = jsonform.AppendOptional(dst, `,"certificate":`, string(e.Login.Certificate))
	dst = jsonform.AppendOptional(dst, `,"key":`, string(e.Login.Key))
	if profile := e.Login.Profile; profile != nil {
		dst = jsonform.AppendOptional(dst, `,"name":`, profile.Name)
		dst = jsonform.AppendOptional(dst, `,"email":`, profile.Email)
	}
	return append(dst, `}}`...)
}

func appendSessions(dst []byte, e *broker.Sessions) []byte {
	if e.Ref == "" {
		return dst
	}
	dst = append(jsonrpc.AppendResult(dst, e.Ref), `{"sessions":[`...)
	for i := range e.Sessions {
		s := &e.Sessions[i]
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendInt(dst, `{"session":`, int64(s.ID))
		dst = jsonform.AppendOptional(dst, `,"device":`, s.Identity.Device)
		dst = jsonform.AppendOptional(dst, `,"protocol":`, s.Protocol)
		dst = jsonform.AppendOptional(dst, `,"remote":`, s.Remote)
		dst = append(dst, `,"since":`...)
		dst = jsonform.AppendTime(dst, s.Since)
		if s.Current {
			dst = append(dst, `,"current":true`...)
		}
		dst = append(dst, '}')
	}
	return append(dst, `]}}`...)
}
