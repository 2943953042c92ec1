package auth

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/account"
)

// IssueToken is Issue for an operator: a ttl of 0 is the configured one.
func (a *Authenticator) IssueToken(user, device string, ttl time.Duration, grants []account.Grant) (Issued, error) {
	return a.Issue(user, device, cmp.Or(ttl, a.tokenTTL), grants)
}

// IssueCertificate makes a client certificate for a user and records it; a ttl of
// 0 is the configured one. The error wraps parley.ErrInvalid, or
// parley.ErrUnavailable when there is no CA that could.
func (a *Authenticator) IssueCertificate(ctx context.Context, user string, ttl time.Duration) (*Made, error) {
	if a.ca == nil {
		return nil, fmt.Errorf("auth: this server has no CA: %w", parley.ErrUnavailable)
	}
	made, err := a.ca.Issue(ctx, Request{User: user, TTL: cmp.Or(ttl, a.certificateTTL), Now: a.now()})
	if err != nil {
		return nil, err
	}
	if err := a.directory.RecordCertificate(ctx, made.Record); err != nil {
		return nil, err
	}
	return made, nil
}
