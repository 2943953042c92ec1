package account

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	"github.com/parley-im/parley/internal/backend"
)

// When what has ended is removed.
const (
	sweepEvery = time.Hour
	keepKeys   = 30 * 24 * time.Hour // expired ones are listed for so long
	keepClaims = time.Hour           // those without a record: one may be on its way
	lastFlush  = 3 * time.Second
)

// Run writes when devices were seen, carries out revocations again for sessions
// that were on their way, and forgets what has expired, until ctx ends.
func (d *Directory) Run(ctx context.Context) error {
	second, minute, hour := time.NewTicker(time.Second), time.NewTicker(flushEvery), time.NewTicker(sweepEvery)
	defer second.Stop()
	defer minute.Stop()
	defer hour.Stop()
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastFlush)
			defer cancel()
			d.flush(last)
			return nil
		case now := <-second.C:
			d.endAgain(now)
		case <-minute.C:
			d.flush(ctx)
		case <-d.pending.full:
			d.flush(ctx)
		case <-hour.C:
			if err := d.sweep(ctx); err != nil && ctx.Err() == nil {
				d.cfg.Logger.ErrorContext(ctx, "cannot remove expired credentials", "error", err)
			}
		}
	}
}

// sweep removes what has ended.
func (d *Directory) sweep(ctx context.Context) error {
	past := d.cfg.Clock.Past()
	for _, part := range []struct {
		prefix string
		over   func(backend.Record) (owner string, over bool, err error)
		kind   string
	}{
		{revokedKeys, func(record backend.Record) (string, bool, error) {
			var r revokedRecord
			err := decode(record, &r)
			return "", !r.Until.IsZero() && r.Until.Before(past), err
		}, ""},
		{certKeys, func(record backend.Record) (string, bool, error) {
			var r certRecord
			err := decode(record, &r)
			return r.User, !r.Expires.IsZero() && r.Expires.Before(past), err
		}, "cert"},
		{apiKeys, func(record backend.Record) (string, bool, error) {
			var r keyRecord
			err := decode(record, &r)
			return r.User, !r.Expires.IsZero() && r.Expires.Add(keepKeys).Before(past), err
		}, "key"},
	} {
		for record, err := range d.cfg.KV.Scan(ctx, part.prefix) {
			if err != nil {
				return err
			}
			owner, over, err := part.over(record)
			if err != nil {
				return err
			}
			if !over {
				continue
			}
			if _, err := d.unset(ctx, record.Key); err != nil {
				return err
			}
			if owner == "" {
				continue
			}
			if err := d.release(ctx, owner, part.kind, strings.TrimPrefix(record.Key, part.prefix)); err != nil {
				return err
			}
		}
	}
	return d.sweepClaims(ctx, past)
}

// sweepClaims removes claims whose record a crash has prevented.
func (d *Directory) sweepClaims(ctx context.Context, past time.Time) error {
	kinds := map[string]string{"key": apiKeys, "cert": certKeys, "link": linkKeys}
	for record, err := range d.cfg.KV.Scan(ctx, ownedKeys) {
		if err != nil {
			return err
		}
		var claimed time.Time
		if err := decode(record, &claimed); err != nil {
			return err
		}
		parts := strings.Split(strings.TrimPrefix(record.Key, ownedKeys), "/")
		if len(parts) != 3 || claimed.Add(keepClaims).After(past) {
			continue
		}
		var value json.RawMessage
		there, err := d.get(ctx, kinds[parts[1]]+parts[2], &value)
		if err != nil {
			return err
		}
		if there {
			continue
		}
		if _, err := d.unset(ctx, record.Key); err != nil {
			return err
		}
	}
	return nil
}
