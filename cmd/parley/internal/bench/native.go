package bench

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/wire"
)

// Signer makes the tokens of the users of a load: JWTs by HMAC-SHA256.
type Signer struct {
	// Secret is the key. Nil is no signer: users say their names, which a server
	// in open mode believes.
	Secret []byte
	// KeyID, Issuer and Audience are the token's kid, iss and aud; empty leaves
	// one out.
	KeyID, Issuer, Audience string
}

// token is one for a user, valid for an hour.
func (s *Signer) token(user string) (string, error) {
	header := map[string]string{"alg": "HS256", "typ": "JWT"}
	if s.KeyID != "" {
		header["kid"] = s.KeyID
	}
	now := time.Now()
	claims := map[string]any{"sub": user, "iat": now.Unix(), "exp": now.Add(time.Hour).Unix(), "jti": rand.Text()}
	if s.Issuer != "" {
		claims["iss"] = s.Issuer
	}
	if s.Audience != "" {
		claims["aud"] = s.Audience
	}
	head, err := json.Marshal(header)
	if err != nil {
		return "", err
	}
	body, err := json.Marshal(claims)
	if err != nil {
		return "", err
	}
	encode := base64.RawURLEncoding.EncodeToString
	signed := encode(head) + "." + encode(body)
	mac := hmac.New(sha256.New, s.Secret)
	mac.Write([]byte(signed))
	return signed + "." + encode(mac.Sum(nil)), nil
}

// authRequest shows who a user is.
func (s *Signer) authRequest(user string) ([]byte, error) {
	b := []byte(`{"jsonrpc":"2.0","id":"auth","method":"auth","params":{"device":"bench","`)
	if s.Secret == nil {
		return append(b, `user":"`+user+`"}}`...), nil
	}
	token, err := s.token(user)
	return append(b, `token":"`+token+`"}}`...), err
}

// dialUser opens a connection by the native protocol as a user, which ctx closes
// when it ends. The request auth is made before, so that a measurement need not
// count it.
func (l *load) dialUser(ctx context.Context, auth []byte) (wire.Conn, error) {
	u, err := url.Parse(l.cfg.URL)
	if err != nil || u.Host == "" {
		return nil, fmt.Errorf("the server's address %q is not a URL: %w", l.cfg.URL, parley.ErrInvalid)
	}
	u.Path = "/v1/rpc"
	conn, err := wire.Dial(ctx, u.String(), nil)
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() { _ = conn.Close(wire.CloseGoingAway, "") })
	if err := ask(conn, auth, `"auth"`); err != nil {
		return nil, errors.Join(err, conn.Close(wire.CloseNormal, ""))
	}
	l.totals.connected.Add(1)
	return conn, nil
}

// user is a name of the load's: all begin with the last segment of the prefix,
// so that two loads do not meet in one inbox.
func (c *Config) user(role string, i int) string {
	return c.Prefix[bytes.LastIndexByte([]byte(c.Prefix), '/')+1:] + "-" + role + strconv.Itoa(i)
}

// ask makes a request and waits for the answer to the id.
func ask(conn wire.Conn, request []byte, id string) error {
	if err := conn.Write(conn.AppendFrame(nil, true, request)); err != nil {
		return err
	}
	answer := []byte(`{"jsonrpc":"2.0","id":` + id + `,`)
	for {
		frames, err := conn.Read()
		if err != nil {
			return err
		}
		for _, f := range frames {
			if bytes.HasPrefix(f.Payload, answer) {
				return failed(f.Payload)
			}
		}
	}
}

// failed is the error that a frame tells, if it answers with one.
func failed(frame []byte) error {
	i := bytes.Index(frame, []byte(`,"error":{`))
	if i < 0 || i > 120 || !bytes.HasPrefix(frame, []byte(`{"jsonrpc":"2.0","id":`)) {
		return nil
	}
	return fmt.Errorf("the server says %.300s: %w", frame[i+1:], parley.ErrUnavailable)
}

// number reads the number behind the name, at or after at, and says where it
// ends; -1 when there is none.
func number(frame []byte, name string, at int) (n uint64, end int) {
	i := bytes.Index(frame[at:], []byte(name))
	if i < 0 {
		return 0, -1
	}
	for end = at + i + len(name); end < len(frame) && frame[end] >= '0' && frame[end] <= '9'; end++ {
		n = n*10 + uint64(frame[end]-'0')
	}
	return n, end
}

// letters calls fn with the seq and the text of each message of a delivery, and
// reports whether the frame is one. The texts of a load need no escaping.
func letters(frame []byte, fn func(seq uint64, text []byte) error) (bool, error) {
	if !bytes.HasPrefix(frame, []byte(`{"jsonrpc":"2.0","method":"msg.recv"`)) {
		return false, nil
	}
	for at := 0; ; {
		seq, end := number(frame, `"seq":`, at)
		if end < 0 {
			return true, nil
		}
		const name = `"text":"`
		i := bytes.Index(frame[end:], []byte(name))
		if i < 0 {
			return true, fmt.Errorf("the server sent %.200q, which is no message of this load", frame[at:])
		}
		text := frame[end+i+len(name):]
		n := bytes.IndexByte(text, '"')
		if n < 0 {
			return true, fmt.Errorf("the server sent %.200q, which has no end", frame[at:])
		}
		if err := fn(seq, text[:n]); err != nil {
			return true, err
		}
		at = end + i + len(name) + n
	}
}
