package server

import (
	"cmp"
	"context"

	"github.com/parley-im/parley/internal/auth"
	"github.com/parley-im/parley/internal/httpapi"
)

// accountRoutes are what the HTTP API needs for users and credentials. What the
// server cannot issue has no route.
func (s *Server) accountRoutes() httpapi.Accounts {
	made := httpapi.Accounts{Directory: s.accounts}
	if s.access.issuer != nil {
		made.IssueToken = s.issueToken
	}
	if s.access.ca != nil && s.access.ca.Issues() {
		made.IssueCertificate = s.issueCertificate
	}
	return made
}

// issueToken makes a token that this server accepts.
func (s *Server) issueToken(_ context.Context, r httpapi.TokenRequest) (httpapi.Token, error) {
	made, err := s.access.issuer.Issue(r.User, r.Device, cmp.Or(r.TTL, s.cfg.Auth.TokenTTL), r.Grants)
	if err != nil {
		return httpapi.Token{}, err
	}
	return httpapi.Token{User: r.User, Device: r.Device, ID: made.ID, Issued: made.Issued.UTC(), Expires: made.Expires.UTC(), Token: made.Token}, nil
}

// issueCertificate makes a client certificate that this server accepts.
func (s *Server) issueCertificate(ctx context.Context, r httpapi.CertificateRequest) (httpapi.IssuedCertificate, error) {
	ca := s.access.ca
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
