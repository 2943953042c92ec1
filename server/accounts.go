package server

import (
	"context"
	"fmt"
	"io"
	"strconv"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/account"
	"github.com/parley-im/parley/internal/audit"
	"github.com/parley-im/parley/internal/httpapi"
)

// openAccounts opens the directory of users over the store.
func (s *Server) openAccounts(ctx context.Context) error {
	d, err := account.Open(ctx, account.Config{
		KV:     s.store,
		Clock:  s.clock,
		Logger: s.logger,
		Grants: s.cfg.Access.Grants,
		Revoked: func(match func(*account.Principal) bool, reason string) {
			if n := s.broker.Revoke(match, reason); n > 0 {
				s.access.audit.Record(context.Background(), &audit.Event{Kind: audit.Revoked, What: strconv.Itoa(n) + " sessions ended: " + reason})
			}
		},
		Erase:       s.eraseUser,
		EraseDevice: s.eraseDevice,
		Export: func(ctx context.Context, user string, w io.Writer) error {
			return httpapi.ExportMessages(s.broker)(ctx, user, w)
		},
	})
	if err != nil {
		return fmt.Errorf("server: accounts: %w", err)
	}
	s.accounts = d
	return nil
}

// accountRoutes are what the HTTP API needs for users and credentials.
func (s *Server) accountRoutes() httpapi.Accounts {
	return httpapi.Accounts{Directory: s.accounts, IssueToken: s.issueToken, IssueCertificate: s.issueCertificate}
}

// errIssuesNothing is a credential that nobody would ask for.
var errIssuesNothing = fmt.Errorf("this server asks for no credential, so it issues none: %w", parley.ErrInvalid)

// issueToken makes a token for a user.
func (s *Server) issueToken(_ context.Context, r httpapi.TokenRequest) (httpapi.Token, error) {
	if s.issuer == nil {
		return httpapi.Token{}, errIssuesNothing
	}
	made, err := s.issuer.IssueToken(r.User, r.Device, r.TTL, r.Grants)
	if err != nil {
		return httpapi.Token{}, err
	}
	return httpapi.Token{User: r.User, Device: r.Device, ID: made.ID, Issued: made.Issued.UTC(), Expires: made.Expires.UTC(), Token: made.Token}, nil
}

// issueCertificate makes a client certificate, and records it.
func (s *Server) issueCertificate(ctx context.Context, r httpapi.CertificateRequest) (httpapi.IssuedCertificate, error) {
	if s.issuer == nil {
		return httpapi.IssuedCertificate{}, errIssuesNothing
	}
	made, err := s.issuer.IssueCertificate(ctx, r.User, r.TTL)
	if err != nil {
		return httpapi.IssuedCertificate{}, err
	}
	return httpapi.IssuedCertificate{
		Certificate: httpapi.CertificateOf(made.Record), PEM: string(made.Certificate), Key: string(made.Key),
	}, nil
}

// eraseUser drops what a deleted user was sent.
func (s *Server) eraseUser(ctx context.Context, user string) (account.Erased, error) {
	return s.broker.Erase(ctx, user)
}

// eraseDevice drops the cursors of a device.
func (s *Server) eraseDevice(ctx context.Context, user, device string) error {
	return s.broker.EraseDevice(ctx, user, device)
}
