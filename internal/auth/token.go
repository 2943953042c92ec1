package auth

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Limits of tokens, in bytes as they are sent.
const (
	// MaxTokenBytes bounds a token.
	MaxTokenBytes = 8 << 10
	// MaxHeaderBytes bounds its header.
	MaxHeaderBytes = 2 << 10
	// MaxKeyIDBytes bounds the id of its key.
	MaxKeyIDBytes = 256
)

// token is a token that is well formed. Nothing of it is true yet.
type token struct {
	algorithm, kid string
	signed         string // what the signature is of
	payload        []byte
	signature      []byte
}

// parse reads the form of a token, not its claims.
func parse(text string) (*token, error) {
	if len(text) > MaxTokenBytes {
		return nil, refuse("the token has more than %d bytes", MaxTokenBytes)
	}
	// Cut three times at most: it does not matter how many dots there are.
	head, rest, ok := strings.Cut(text, ".")
	body, signature, two := strings.Cut(rest, ".")
	if !ok || !two || strings.Contains(signature, ".") {
		return nil, refuse("the token has not three segments")
	}
	if len(head) > MaxHeaderBytes {
		return nil, refuse("the token's header has more than %d bytes", MaxHeaderBytes)
	}
	t := &token{signed: text[:len(head)+1+len(body)]}
	header, err := segment("header", head)
	if err != nil {
		return nil, err
	}
	if err := t.readHeader(header); err != nil {
		return nil, err
	}
	if t.payload, err = segment("payload", body); err != nil {
		return nil, err
	}
	if t.signature, err = segment("signature", signature); err != nil {
		return nil, err
	}
	return t, nil
}

// segment decodes base64 that has one spelling: the library by itself skips line
// breaks.
func segment(what, text string) ([]byte, error) {
	if text == "" {
		return nil, refuse("the token's %s is empty", what)
	}
	if strings.ContainsAny(text, "\r\n") {
		return nil, refuse("the token's %s has a line break", what)
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil {
		return nil, refuse("the token's %s is not base64url", what)
	}
	return b, nil
}

// readHeader reads what chooses the key. Members that bring a key along, or
// change what the rest means, are refused; what else there is does not matter.
func (t *token) readHeader(text []byte) error {
	members, err := object("header", text)
	if err != nil {
		return err
	}
	for _, name := range []string{"crit", "jku", "jwk", "x5u", "x5c", "zip", "enc", "b64", "epk"} {
		if _, ok := members[name]; ok {
			return refuse("the token's header has %s", name)
		}
	}
	if t.algorithm, err = text1(members, "alg"); err != nil {
		return err
	}
	if typ, err := optionalText(members, "typ"); err != nil || typ != "" && !strings.EqualFold(typ, "JWT") && !strings.EqualFold(typ, "at+jwt") {
		return refuse("the token's typ is not JWT")
	}
	if cty, err := optionalText(members, "cty"); err != nil || cty != "" && !strings.EqualFold(cty, "JWT") {
		return refuse("the token's cty is not JWT")
	} else if cty != "" {
		return refuse("the token holds another token")
	}
	if t.kid, err = optionalText(members, "kid"); err != nil || len(t.kid) > MaxKeyIDBytes {
		return refuse("the token's kid is no text of at most %d bytes", MaxKeyIDBytes)
	}
	return nil
}

// fingerprint names a token without an id of its own. The signature is left out:
// some algorithms allow a second one that is as good.
func (t *token) fingerprint() string {
	sum := sha256.Sum256([]byte(t.signed))
	return "sha256-" + hex.EncodeToString(sum[:16])
}

// object reads a strict JSON object: no name twice, valid UTF-8, nothing after
// it.
func object(what string, text []byte) (map[string]jsontext.Value, error) {
	if len(text) == 0 || text[0] != '{' {
		return nil, refuse("the token's %s is no JSON object", what)
	}
	var members map[string]jsontext.Value
	if err := json.Unmarshal(text, &members); err != nil {
		return nil, refuse("the token's %s is not strict JSON", what)
	}
	return members, nil
}

// text1 is a member that must be a text, and not an empty one.
func text1(members map[string]jsontext.Value, name string) (string, error) {
	s, err := optionalText(members, name)
	if err == nil && s == "" {
		err = refuse("the token has no %s", name)
	}
	return s, err
}

// optionalText is a member that must be a text if it is there.
func optionalText(members map[string]jsontext.Value, name string) (string, error) {
	value, ok := members[name]
	if !ok {
		return "", nil
	}
	var s string
	if value.Kind() != '"' || json.Unmarshal(value, &s) != nil {
		return "", refuse("the token's %s is no text", name)
	}
	return s, nil
}

// texts is a member that is a text or an array of them; without it there are
// none.
func texts(members map[string]jsontext.Value, name string, most int) ([]string, error) {
	value, ok := members[name]
	if !ok {
		return nil, nil
	}
	var all []string
	if value.Kind() == '"' {
		all = []string{""}
		if json.Unmarshal(value, &all[0]) != nil {
			return nil, refuse("the token's %s is no text", name)
		}
	} else {
		if value.Kind() != '[' {
			return nil, refuse("the token's %s is neither a text nor texts", name)
		}
		// null would be read as an empty text.
		var values []jsontext.Value
		if json.Unmarshal(value, &values) != nil || len(values) > most {
			return nil, refuse("the token's %s has more than %d entries", name, most)
		}
		for _, v := range values {
			var s string
			if v.Kind() != '"' || json.Unmarshal(v, &s) != nil {
				return nil, refuse("the token's %s holds what is no text", name)
			}
			all = append(all, s)
		}
	}
	return all, nil
}
