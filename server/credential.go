package server

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/account"
)

const (
	// tokenParam is the parameter of a URL that may hold a credential, for
	// browsers, which can give a WebSocket or an event stream no header.
	tokenParam = "access_token"
	// maxSecret bounds a credential before anything is done with it.
	maxSecret = 8 << 10
)

// shown is the credential that came with a request; err says what is wrong with
// how it came. No credential is given when the Kind is 0.
type shown struct {
	account.Credential

	user string // that Basic names beside it; empty for any
	err  error
}

type shownKey struct{}

// takeCredential takes the credential out of each request before anybody else
// sees it (S14): what is not there can be neither logged, nor shown, nor taken
// for a part of a user's name. [credentialOf] finds it.
func takeCredential(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := new(shown)
		c.takeHeader(r)
		c.takeQuery(r)
		if c.Kind == 0 && c.err == nil && certificateOf(r) != nil {
			c.Kind = account.Certificate
		}
		if c.Kind == 0 && c.err == nil {
			next.ServeHTTP(w, r)
			return
		}
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), shownKey{}, c)))
	})
}

// credentialOf is what takeCredential took of r.
func credentialOf(r *http.Request) *shown {
	c, ok := r.Context().Value(shownKey{}).(*shown)
	if !ok {
		return new(shown)
	}
	return c
}

// set takes a secret, of which there may be one.
func (c *shown) set(secret string) {
	switch {
	case c.Kind != 0:
		c.err = fmt.Errorf("more than one credential: %w", parley.ErrInvalid)
	case secret == "" || len(secret) > maxSecret:
		c.err = fmt.Errorf("the credential is empty, or longer than %d bytes: %w", maxSecret, parley.ErrInvalid)
	default:
		c.Kind, c.Secret = account.Token, secret
		if strings.HasPrefix(secret, account.KeyPrefix) {
			c.Kind = account.APIKey
		}
	}
}

// takeHeader reads "Bearer TOKEN-OR-KEY", and "Basic" with a user, or none, and a
// key as the password.
func (c *shown) takeHeader(r *http.Request) {
	const header = "Authorization"
	lines := r.Header.Values(header)
	if len(lines) == 0 {
		return
	}
	r.Header.Del(header)
	scheme, rest, _ := strings.Cut(lines[0], " ")
	rest = strings.TrimSpace(rest)
	switch {
	case len(lines) > 1:
		c.err = fmt.Errorf("more than one credential: %w", parley.ErrInvalid)
	case strings.EqualFold(scheme, "Bearer"):
		c.set(rest)
	case strings.EqualFold(scheme, "Basic"):
		c.basic(r, rest)
	default:
		c.err = fmt.Errorf("Authorization must be Bearer, or Basic with an API key as the password: %w", parley.ErrInvalid) //nolint:staticcheck // the name of a header
	}
}

// basic reads the two halves. What a browser has stored it sends for any page, so
// a page of another site may not use it (S6).
func (c *shown) basic(r *http.Request, encoded string) {
	p, err := base64.StdEncoding.DecodeString(encoded)
	user, password, found := strings.Cut(string(p), ":")
	site := r.Header.Get("Sec-Fetch-Site")
	switch {
	case err != nil || !found:
		c.err = fmt.Errorf("Authorization is malformed: %w", parley.ErrInvalid) //nolint:staticcheck // as above
	case r.Header.Get("Origin") != "" || site != "" && site != "same-origin" && site != "none":
		c.err = fmt.Errorf("pages must send Bearer, not Basic: %w", parley.ErrForbidden)
	default:
		c.user = user
		c.set(password)
	}
}

// takeQuery reads the parameter and removes it from the URL in all its forms.
func (c *shown) takeQuery(r *http.Request) {
	if !strings.Contains(r.URL.RawQuery, "access") && !strings.Contains(r.URL.RawQuery, "%") {
		return
	}
	var kept []string
	found := false
	for part := range strings.SplitSeq(r.URL.RawQuery, "&") {
		name, value, _ := strings.Cut(part, "=")
		if plain, err := url.QueryUnescape(name); err != nil || plain != tokenParam {
			kept = append(kept, part)
			continue
		}
		found = true
		secret, err := url.QueryUnescape(value)
		if err != nil {
			secret = ""
		}
		c.set(secret)
	}
	if !found {
		return
	}
	u := *r.URL
	u.RawQuery = strings.Join(kept, "&")
	r.URL = &u
	path, _, _ := strings.Cut(r.RequestURI, "?")
	if r.RequestURI = path; u.RawQuery != "" {
		r.RequestURI += "?" + u.RawQuery
	}
}
