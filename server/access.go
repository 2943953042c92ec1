package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/account"
	"github.com/parley-im/parley/internal/audit"
	"github.com/parley-im/parley/internal/auth"
	"github.com/parley-im/parley/internal/broker"
	"github.com/parley-im/parley/internal/httpapi"
	"github.com/parley-im/parley/internal/protocol"
	"github.com/parley-im/parley/internal/wire"
)

// verifier finds out who a credential proves.
type verifier func(context.Context, account.Credential) (*account.Login, error)

// access decides who is who, and how much they may do.
type access struct {
	// verify tells who a credential proves; nil in open mode, in which nobody is
	// asked for one.
	verify verifier
	// verifyTest is the same for the listener with the secret of Titan's tests.
	verifyTest verifier
	// authenticators are behind them; issuer, which makes tokens, is that of
	// verify.
	authenticators []*auth.Authenticator
	issuer         *auth.Authenticator
	ca             *auth.CA // nil without one

	rates rates
	audit *audit.Log
	users perUser
}

// open reports whether nobody is asked for a credential.
func (a *access) open() bool { return a.verify == nil }

// limit replaces the bounds for those who come from now on.
func (a *access) limit(c *Access) {
	a.rates.set(c.Rates)
	a.users.limit(c.PerUser)
}

// authenticates reports whether clients are asked for a credential.
func (c *Config) authenticates() bool { return c.Access.Required || c.Auth.Configured() }

// openAccess makes what verifies credentials. The directory is open.
func (s *Server) openAccess() error {
	a := &s.access
	if s.cfg.authenticates() {
		configured, err := s.cfg.authConfig(s.logger)
		if err != nil {
			return err
		}
		if configured.Signer, err = s.cfg.signer(); err != nil {
			return err
		}
		if a.verify, err = s.authenticator(configured); err != nil {
			return err
		}
		a.issuer, a.ca = a.authenticators[0], configured.CA
	}
	if s.cfg.Titan.Test {
		everybody := auth.Key{
			Name: "titan-test", Algorithms: []string{"HS256", "HS384", "HS512"}, Secret: []byte(testSecret),
			Rules: auth.Rules{UserClaim: "userid", Legacy: true},
		}
		verify, err := s.authenticator(auth.Config{Keys: []auth.Key{everybody}})
		if err != nil {
			return err
		}
		a.verifyTest = func(ctx context.Context, c account.Credential) (*account.Login, error) {
			login, err := verify(ctx, c)
			if err == nil {
				who := *login.Principal
				who.Grants = append(slices.Clone(who.Grants), account.Grant{Operations: account.Send, Pattern: "/$inbox/*"})
				login.Principal = &who
			}
			return login, err
		}
	}
	return nil
}

// authenticator makes one that runs with the server.
func (s *Server) authenticator(c auth.Config) (verifier, error) {
	c.Directory, c.Clock, c.Logger = s.accounts, s.clock, s.logger
	a, err := auth.New(c)
	if err != nil {
		return nil, fmt.Errorf("server: %w", err)
	}
	s.access.authenticators = append(s.access.authenticators, a)
	return a.Verify, nil
}

// errNoneAsked is a credential where nobody wants one.
var errNoneAsked = fmt.Errorf("this server has no authentication, and so cannot verify anything: %w", parley.ErrInvalid)

// peer is where a client is, and what it speaks.
type peer struct {
	address  netip.Addr
	protocol string
	verify   verifier // nil in open mode
	// certificate is what the client has shown in the TLS handshake, DER; nil when
	// it has shown none.
	certificate []byte
}

// at is where a request comes from.
func (s *Server) at(r *http.Request, protocolName string) peer {
	return peer{network(r.RemoteAddr), protocolName, s.access.verify, certificateOf(r)}
}

// certificateOf is the client certificate of a request, if it was verified.
func certificateOf(r *http.Request) []byte {
	if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 {
		return nil
	}
	return r.TLS.PeerCertificates[0].Raw
}

// authenticate verifies what a client shows. The error tells the client that it
// was refused, and where that is its own mistake why; it is counted and may be
// logged.
func (s *Server) authenticate(ctx context.Context, at peer, c account.Credential) (*account.Login, error) {
	a := &s.access
	if at.verify == nil {
		return claim(c)
	}
	if err := a.rates.mayTry(at.address); err != nil {
		s.exceeded(ctx, account.Nobody(), at, err)
		return nil, err
	}
	c.Certificate = at.certificate // and never what a client says that it is
	login, err := at.verify(ctx, c)
	switch {
	case err == nil:
		a.audit.Record(ctx, &audit.Event{Kind: audit.Login})
		return login, nil
	case errors.Is(err, parley.ErrUnavailable):
		return nil, err // nobody's fault who asks
	}
	a.rates.failed(at.address)
	e := &audit.Event{Kind: audit.Failure, Address: at.address, Protocol: at.protocol, What: kindName(c.Kind)}
	if refused, ok := errors.AsType[*auth.Error](err); ok {
		e.User, e.What = refused.User, e.What+": "+refused.Reason
	}
	a.audit.Record(ctx, e)
	return nil, err
}

// claim takes a client's word for who it is, in open mode.
func claim(c account.Credential) (*account.Login, error) {
	if c.Kind != account.Claim {
		return nil, errNoneAsked
	}
	var id parley.Identity
	var err error
	if id.User, err = parley.ParseUser(c.User); err != nil {
		return nil, err
	}
	if c.Device != "" {
		if id.Device, err = parley.ParseDevice(c.Device); err != nil {
			return nil, err
		}
	}
	return &account.Login{Principal: account.Anyone(id)}, nil
}

func kindName(k account.CredentialKind) string {
	switch k {
	case account.Token:
		return "token"
	case account.IDToken:
		return "id token"
	case account.APIKey:
		return "api key"
	case account.Claim:
		return "claim"
	case account.Certificate:
		return "certificate"
	}
	return "credential"
}

// caller is who makes a request: nobody, when it shows nothing and the server
// asks. The error says that what it shows is not accepted.
func (s *Server) caller(r *http.Request, at peer) (*account.Principal, error) {
	if at.verify == nil {
		return account.Anyone(parley.Identity{}), nil
	}
	shown := credentialOf(r)
	switch {
	case shown.err != nil:
		return nil, shown.err
	case shown.Kind == 0, shown.Kind == account.Certificate && at.certificate == nil: // one that does not count
		return account.Nobody(), nil
	}
	login, err := s.authenticate(r.Context(), at, shown.Credential)
	if err != nil {
		return nil, err
	}
	if shown.user != "" {
		if user, err := parley.ParseUser(shown.user); err != nil || user != login.Principal.User {
			return nil, account.ErrRefused
		}
	}
	return login.Principal, nil
}

// introduce tells a conversation who its client is, and how it may say that it is
// somebody else. The function that is returned is called when the conversation
// is over. The error says that this user has too many.
func (s *Server) introduce(ctx context.Context, c *protocol.Conversation, at peer) (done func(), err error) {
	if c.Principal == nil && at.verify == nil {
		c.Principal = account.Anyone(c.Identity)
	} else if c.Principal == nil {
		c.Principal = account.Nobody()
	}
	c.Protocol = at.protocol
	c.Watch = s.watch(ctx, at)
	visit := &visit{users: &s.access.users}
	last := c.Principal
	enter := func(who *account.Principal) error {
		if visit.knows(who) {
			return nil
		}
		if err := s.access.rates.connects(who); err != nil {
			s.exceeded(context.WithoutCancel(ctx), who, at, err) // as in watch
			return err
		}
		return visit.as(who)
	}
	c.Authenticate = func(ctx context.Context, shown account.Credential) (*account.Login, error) {
		login, err := s.authenticate(ctx, at, shown)
		if err == nil {
			err = enter(login.Principal)
		}
		if err != nil {
			return nil, err
		}
		last = login.Principal
		return login, nil
	}
	over := func() {
		visit.over()
		if !last.Open {
			s.accounts.Left(last.Identity)
		}
	}
	return over, enter(c.Principal)
}

// watch counts what a client does, and notes what it may not.
func (s *Server) watch(ctx context.Context, at peer) *broker.Watch {
	ctx = context.WithoutCancel(ctx) // the log does not end with a conversation
	w := &broker.Watch{Denied: func(who *account.Principal, o account.Operation, t parley.Topic) {
		s.access.audit.Record(ctx, &audit.Event{
			Kind: audit.Denial, Address: at.address, Protocol: at.protocol, User: who.User, Credential: who.Credential, What: o.String() + " " + string(t),
		})
	}}
	w.Over = func(who *account.Principal, err error) { s.exceeded(ctx, who, at, err) }
	w.Spend = func(who *account.Principal, o account.Operation, t parley.Topic, bytes int) error {
		return s.within(ctx, who, at, s.access.rates.publishes(who, at.address, o, t, bytes))
	}
	return w
}

// visitor is who asks for a conversation by r; nobody when that is to be said in
// it. The page that a browser acts for is judged first: others learn nothing of
// credentials.
func (s *Server) visitor(r *http.Request, at peer, c *wire.Config) (*account.Principal, error) {
	if at.verify == nil {
		return account.Anyone(parley.Identity{}), nil
	}
	if err := c.Check(r); err != nil {
		return account.Nobody(), err
	}
	if r.Method != http.MethodGet || r.Header.Get("Upgrade") == "" { // will be refused, and costs nothing until then
		return account.Nobody(), nil
	}
	who, err := s.caller(r, at)
	if err != nil {
		return account.Nobody(), err
	}
	return who, nil
}

// turnAway answers a client whose conversation does not begin.
func (s *Server) turnAway(w http.ResponseWriter, r *http.Request, who *account.Principal, at peer, err error) {
	s.count.refused("credential")
	if errors.Is(err, parley.ErrForbidden) {
		s.denied(r, who, at.protocol)
	}
	httpapi.FailText(w, r, s.logger, err)
}

// plainToNetwork reports whether others may read along what clients show.
func (s *Server) plainToNetwork() bool {
	return !s.access.open() && s.plain != nil && s.secure == nil && !loopback(s.cfg.HTTP.Listen)
}

// restCaller is who makes a request of the HTTP API.
func (s *Server) restCaller(r *http.Request) (*account.Principal, error) {
	return s.caller(r, s.at(r, "rest"))
}

// gobblerCaller is who makes a request of the Gobbler server's HTTP API.
func (s *Server) gobblerCaller(r *http.Request) (*account.Principal, error) {
	return s.caller(r, s.at(r, gobblerName))
}

// denied notes that somebody may not do what they asked for.
func (s *Server) denied(r *http.Request, who *account.Principal, what string) {
	s.access.audit.Record(r.Context(), &audit.Event{
		Kind: audit.Denial, Address: network(r.RemoteAddr), Protocol: "http", User: who.User, Credential: who.Credential, What: what,
	})
}

// within is err, of a rate, and notes it if there is one.
func (s *Server) within(ctx context.Context, who *account.Principal, at peer, err error) error {
	if err != nil {
		s.exceeded(ctx, who, at, err)
	}
	return err
}

// spend counts a message that a request is to store, and refuses one too many.
func (s *Server) spend(r *http.Request, who *account.Principal, o account.Operation, t parley.Topic, bytes int) error {
	at := s.at(r, "http")
	return s.within(r.Context(), who, at, s.access.rates.publishes(who, at.address, o, t, bytes))
}

// over notes what a quota has refused of a request.
func (s *Server) over(r *http.Request, who *account.Principal, err error) {
	s.exceeded(r.Context(), who, s.at(r, "http"), err)
}

// exceeded notes that somebody did too much.
func (s *Server) exceeded(ctx context.Context, who *account.Principal, at peer, err error) {
	s.access.audit.Record(ctx, &audit.Event{
		Kind: audit.Exceeded, Address: at.address, Protocol: at.protocol, User: who.User, Credential: who.Credential, What: err.Error(),
	})
}

// anywhere admits requests on a listener that only those reach who may.
func anywhere(*http.Request) bool { return true }

// operators is the guard of what is an operator's business: for those who come
// from where operators are, and for those who prove that they are one. What they
// change is noted.
func (s *Server) operators(near func(*http.Request) bool) guard {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			who, err := s.operator(r, near(r))
			if err != nil {
				httpapi.Fail(w, r, s.logger, err)
				return
			}
			if r.Method != http.MethodGet && r.Method != http.MethodHead || readsMessages(r.Pattern) {
				s.access.audit.Record(r.Context(), &audit.Event{
					Kind: audit.Admin, Address: network(r.RemoteAddr), User: who.User, Credential: who.Credential, What: r.Method + " " + r.URL.Path,
				})
			}
			next.ServeHTTP(w, r)
		})
	}
}

// readsMessages reports whether a route shows an operator what users have written.
func readsMessages(pattern string) bool {
	return strings.HasSuffix(pattern, "/backup") || strings.HasSuffix(pattern, "/export") || strings.HasSuffix(pattern, "/dead-letters")
}

// operator is who makes an operator's request. From where operators are, that may
// be nobody; otherwise they must prove that they are one.
func (s *Server) operator(r *http.Request, near bool) (*account.Principal, error) {
	who := account.Nobody()
	if !s.access.open() {
		shown, err := s.caller(r, s.at(r, "operator"))
		if err != nil {
			return nil, err
		}
		who = shown
	}
	if near {
		return who, nil
	}
	err := who.Allow(account.Admin, "/*")
	if err == nil {
		return who, nil
	}
	s.denied(r, who, r.Method+" "+r.URL.Path)
	if s.access.open() {
		err = errOnlyHere
	}
	return nil, err
}

// errOnlyHere refuses operators' business to others than this machine.
var errOnlyHere = fmt.Errorf("only for this machine: %w", parley.ErrForbidden)
