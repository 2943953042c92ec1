package auth_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/account"
)

// directory stands in for account.Directory.
type directory struct {
	mu           sync.Mutex
	suspended    map[string]bool
	revoked      map[string]bool
	links        map[[2]string]string
	profiles     []account.Profile
	keys         map[string]*account.Principal
	certificates []account.CertificateRecord
}

func newDirectory(testing.TB) *directory {
	return &directory{
		suspended: map[string]bool{}, revoked: map[string]bool{}, links: map[[2]string]string{}, keys: map[string]*account.Principal{},
	}
}

func (d *directory) Admit(_ context.Context, p *account.Principal, _ account.Credential) (*account.Principal, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.suspended[p.User] || d.revoked[p.Credential] {
		return nil, account.ErrUnknown
	}
	return p, nil
}

func (d *directory) Link(_ context.Context, issuer, subject string, p account.Profile) (string, bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.profiles = append(d.profiles, p)
	user, found := d.links[[2]string{issuer, subject}]
	if !found {
		user = fmt.Sprintf("user%d", len(d.links)+1)
		d.links[[2]string{issuer, subject}] = user
	}
	return user, !found, nil
}

func (d *directory) VerifyKey(_ context.Context, secret string) (*account.Principal, error) {
	if p := d.keys[secret]; p != nil {
		return p, nil
	}
	return nil, fmt.Errorf("no such key: %w", parley.ErrUnauthenticated)
}

func (d *directory) RecordCertificate(_ context.Context, c account.CertificateRecord) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.certificates = append(d.certificates, c)
	return nil
}
