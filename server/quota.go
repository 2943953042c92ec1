package server

import (
	"context"
	"errors"
	"fmt"

	"github.com/parley-im/parley/internal/backend"
)

// meter makes the store count what users have stored, when there is a quota for
// all. On a disk without a free byte it does not, because the server has to start
// there too.
func (s *Server) meter(ctx context.Context, c *Access) error {
	if c.Quota == 0 {
		return nil
	}
	err := s.broker.StartMetering(ctx)
	switch {
	case errors.Is(err, backend.ErrStorageFull):
		s.logger.ErrorContext(ctx, "there is no room to begin to count what users have stored: quotas hold from the next start or reload with room", "error", err)
		return nil
	case err != nil:
		return fmt.Errorf("server: user-quota: %w", err)
	}
	return nil
}

// quotaOf is how many bytes a user may have stored: by their record, or as
// everybody. 0 is without bound.
func (s *Server) quotaOf(user string) int64 {
	own, err := s.accounts.Quota(context.Background(), user) // memory, or one read of the local store
	switch {
	case err != nil:
		s.logger.Error("cannot read the quota of a user: that of all counts", "error", err)
	case own < 0:
		return 0
	case own > 0:
		return own
	}
	return s.config().Access.Quota
}
