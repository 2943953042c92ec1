package server

import (
	"context"
	"fmt"
	"io"
	"strconv"

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
		Revoked: func(match func(*account.Principal) bool, reason string) { //nolint:contextcheck // whoever revoked may be gone
			if n := s.broker.Revoke(match, reason); n > 0 {
				s.access.audit.Record(context.Background(), &audit.Event{Kind: audit.Revoked, What: strconv.Itoa(n) + " sessions ended: " + reason})
			}
		},
		Meter:       s.broker.StartMetering,
		Erase:       s.eraseUser,
		EraseDevice: s.eraseDevice,
		Export: func(ctx context.Context, user string, w io.Writer) error {
			return httpapi.ExportMessages(ctx, s.broker, user, w)
		},
	})
	if err != nil {
		return fmt.Errorf("server: accounts: %w", err)
	}
	s.accounts = d
	return nil
}

// eraseUser drops what a deleted user was sent.
func (s *Server) eraseUser(ctx context.Context, user string) (account.Erased, error) {
	return s.broker.Erase(ctx, user)
}

// eraseDevice drops the cursors of a device.
func (s *Server) eraseDevice(ctx context.Context, user, device string) error {
	return s.broker.EraseDevice(ctx, user, device)
}
