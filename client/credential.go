package client

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/parley-im/parley"
)

// WhoAmI is who the server takes the client for.
type WhoAmI struct {
	parley.Identity

	// Expires is when the credential ends; zero is never.
	Expires time.Time
}

// WhoAmI waits for a connection if there is none, and tells who the client is on
// it: the User is empty for a client that showed nothing.
func (c *Client) WhoAmI(ctx context.Context) (WhoAmI, error) {
	for {
		if err := c.do(ctx, "ping", nil, &struct{}{}); err != nil {
			return WhoAmI{}, err
		}
		c.mu.Lock()
		s := c.session
		c.mu.Unlock()
		if s != nil {
			return s.identity(), nil
		}
	}
}

// SessionInfo describes one live connection of the client's user.
type SessionInfo struct {
	Session  uint64    `json:"session"` // a number that no other has until the server restarts
	Device   string    `json:"device"`
	Protocol string    `json:"protocol"`
	Remote   string    `json:"remote"` // its address
	Since    time.Time `json:"since"`
	Current  bool      `json:"current"` // it is this client's
}

// Sessions lists the live connections of the client's user.
func (c *Client) Sessions(ctx context.Context) ([]SessionInfo, error) {
	var answer struct {
		Sessions []SessionInfo `json:"sessions"`
	}
	if err := c.do(ctx, "session.list", nil, &answer); err != nil {
		return nil, err
	}
	return answer.Sessions, nil
}

// authID is the id of the auth that follows hello; those of calls count from 1.
const authID = 1 << 53

type authParams struct {
	Token       string `json:"token,omitempty"`
	APIKey      string `json:"api_key,omitempty"`
	Certificate bool   `json:"certificate,omitempty"`
	User        string `json:"user,omitempty"`
	Device      string `json:"device,omitempty"`
	DeviceName  string `json:"device_name,omitempty"`
	Platform    string `json:"platform,omitempty"`
}

type authResult struct {
	User    string    `json:"user"`
	Device  string    `json:"device"`
	Expires time.Time `json:"expires"`
}

// certified reports whether TLS shows a client certificate.
func (o *Options) certified() bool {
	return o.TLS != nil && (len(o.TLS.Certificates) > 0 || o.TLS.GetClientCertificate != nil)
}

// checkCredential says what is wrong with the credentials together.
func (o *Options) checkCredential() error {
	given := 0
	for _, is := range []bool{o.Token != nil, o.APIKey != "", o.User != ""} {
		if is {
			given++
		}
	}
	if given > 1 {
		return fmt.Errorf("client: only one of Token, APIKey and User proves who you are: %w", parley.ErrInvalid)
	}
	if o.User != "" {
		if _, err := parley.ParseUser(o.User); err != nil {
			return fmt.Errorf("client: %w", err)
		}
	}
	if o.Device != "" {
		if _, err := parley.ParseDevice(o.Device); err != nil {
			return fmt.Errorf("client: %w", err)
		}
	}
	return nil
}

// credential is what auth shows; nil when there is nothing to show.
func (o *Options) credential(ctx context.Context) ([]byte, error) {
	p := authParams{Device: o.Device, DeviceName: o.DeviceName, Platform: o.Platform}
	switch {
	case o.Token != nil:
		token, err := o.Token(ctx)
		if err == nil && token == "" {
			err = fmt.Errorf("the token is empty: %w", parley.ErrUnauthenticated)
		}
		if err != nil {
			return nil, fmt.Errorf("token: %w", err)
		}
		p.Token = token
	case o.APIKey != "":
		p.APIKey = o.APIKey
	case o.User != "":
		p.User = o.User
	case o.certified():
		p.Certificate = true
	default:
		return nil, nil
	}
	return encode(p)
}

// authenticated takes note of the answer to auth.
func (s *session) authenticated(r *authResult) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.who = WhoAmI{Identity: parley.Identity{User: r.User, Device: r.Device}, Expires: r.Expires}
}

func (s *session) identity() WhoAmI {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.who
}

const (
	// minRefresh is the least time between two refreshes of a token.
	minRefresh = time.Second
	// maxRefresh is the longest time that one timer runs.
	maxRefresh = 24 * time.Hour
)

// refresh shows a new token whenever four fifths of the time that the one before
// has left are over, until ctx ends. The server ends the session of a client
// that does not manage that, and the next one begins with a new token.
func (c *Client) refresh(ctx context.Context, s *session) {
	if c.options.Token == nil {
		return
	}
	for {
		expires := s.identity().Expires
		wait := maxRefresh
		if !expires.IsZero() {
			left := time.Until(expires.Add(s.skew))
			wait = min(max(left*4/5, minRefresh), maxRefresh)
		}
		if !sleep(ctx, wait) {
			return
		}
		if expires.IsZero() || wait == maxRefresh {
			continue
		}
		if err := c.showAgain(ctx, s); err != nil && ctx.Err() == nil {
			c.options.Logger.WarnContext(ctx, "token not refreshed", "err", err)
		}
	}
}

// showAgain authenticates on a live session.
func (c *Client) showAgain(ctx context.Context, s *session) error {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	params, err := c.options.credential(ctx)
	if err != nil {
		return err
	}
	answer := make(chan response, 1)
	c.mu.Lock()
	if c.session != s {
		c.mu.Unlock()
		return errLost
	}
	call := c.newCallLocked("auth", params, func(r response) { answer <- r })
	call.bound = true
	s.send(call.payload)
	c.mu.Unlock()
	select {
	case r := <-answer:
		var result authResult
		if err := r.into(&result); err != nil {
			return err
		}
		s.authenticated(&result)
		return nil
	case <-ctx.Done():
		return c.forget(ctx, call.id)
	}
}

// errLost answers a call that belongs to a connection which ended before the
// server answered.
var errLost = errors.New("the connection was lost before the server answered")

// refused reports whether the server does not accept what the client shows: it
// will not the next time either, as far as anybody knows.
func refused(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && (final(e) || errors.Is(e, parley.ErrInvalid))
}

// replaced reports whether another session of this device has taken the place
// of the client's.
func replaced(err error) bool {
	bye, ok := errors.AsType[*byeError](err)
	return ok && bye.code == "replaced"
}
