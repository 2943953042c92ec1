package server

import (
	"cmp"
	"context"
	"fmt"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/auth"
	"github.com/parley-im/parley/internal/httpapi"
)

// accountRoutes are what the HTTP API needs for users and credentials.
func (s *Server) accountRoutes() httpapi.Accounts {
	return httpapi.Accounts{Directory: s.accounts, IssueToken: s.issueToken, IssueCertificate: s.issueCertificate}
}

// What is asked of a server that cannot do it.
var (
	errNoTokens       = fmt.Errorf("this server asks for no credential, so it issues none: configure authentication first: %w", parley.ErrInvalid)
	errNoCertificates = fmt.Errorf("this server has no CA that could issue: give --ca-dir: %w", parley.ErrInvalid)
)

// issueToken makes a token that this server accepts.
func (s *Server) issueToken(_ context.Context, r httpapi.TokenRequest) (httpapi.Token, error) {
	if s.access.issuer == nil {
		return httpapi.Token{}, errNoTokens
	}
	made, err := s.access.issuer.Issue(r.User, r.Device, cmp.Or(r.TTL, s.cfg.Auth.TokenTTL), r.Grants)
	if err != nil {
		return httpapi.Token{}, err
	}
	return httpapi.Token{User: r.User, Device: r.Device, ID: made.ID, Issued: made.Issued.UTC(), Expires: made.Expires.UTC(), Token: made.Token}, nil
}

// issueCertificate makes a client certificate that this server accepts.
func (s *Server) issueCertificate(ctx context.Context, r httpapi.CertificateRequest) (httpapi.IssuedCertificate, error) {
	ca := s.access.ca
	if ca == nil || !ca.Issues() {
		return httpapi.IssuedCertificate{}, errNoCertificates
	}
	made, err := ca.Issue(ctx, auth.Request{User: r.User, TTL: cmp.Or(r.TTL, s.cfg.Auth.CertificateTTL), Now: s.clock.Now()})
	if err == nil {
		err = s.accounts.RecordCertificate(ctx, made.Record)
	}
	if err != nil {
		return httpapi.IssuedCertificate{}, err
	}
	return httpapi.IssuedCertificate{
		Certificate: httpapi.CertificateOf(made.Record), PEM: string(made.Certificate) + string(ca.Intermediate()), Key: string(made.Key),
	}, nil
}
