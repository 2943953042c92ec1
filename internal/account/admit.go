package account

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/parley-im/parley"
)

// ErrRefused is what a credential gets that does not count, whatever is the
// matter with it.
var ErrRefused = fmt.Errorf("the credential is not accepted: %w", parley.ErrUnauthenticated)

// Admit completes a principal whose credential was verified: it refuses the
// suspended and the revoked, adds the grants of the user's record and of every
// user, makes the record of a user or a device that is new, and notes that they
// were seen. A Claim proves nothing, so it makes no record. The error wraps
// parley.ErrUnauthenticated and does not tell why; or parley.ErrInvalid when the
// device has no valid name.
//
// It is called with every connection. When neither user nor device is new, it
// writes nothing and reads what is in memory.
func (d *Directory) Admit(ctx context.Context, p *Principal, c Credential) (*Principal, error) {
	device, err := deviceOf(p, c)
	if err != nil {
		return nil, err
	}
	issued, err := d.issued(ctx, p)
	if err != nil {
		return nil, err
	}
	if p.User == "" {
		return p, nil
	}
	name, err := parley.ParseUser(p.User)
	if err != nil {
		return nil, ErrRefused
	}
	proves := c.Kind != Claim && !p.Open
	u, err := d.load(ctx, name)
	if err != nil {
		return nil, err
	}
	if u != nil && u.refuses(issued, proves) {
		return nil, ErrRefused
	}
	switch {
	case proves && (u == nil || device != "" && u.device(device) < 0):
		u, err = d.introduce(ctx, name, device, c, issued)
	case u != nil && device != "":
		d.noteSeen(u, device)
	}
	if err != nil {
		return nil, err
	}
	return d.complete(p, u, parley.Identity{User: name, Device: device}), nil
}

// deviceOf is the device that the credential and what the client says agree on.
func deviceOf(p *Principal, c Credential) (string, error) {
	if p.Device != "" && c.Device != "" && p.Device != c.Device {
		return "", ErrRefused
	}
	device := cmp.Or(p.Device, c.Device)
	if device == "" {
		return "", nil
	}
	return parley.ParseDevice(device)
}

// issued refuses a credential that was revoked by itself, and tells when it was
// made.
func (d *Directory) issued(ctx context.Context, p *Principal) (time.Time, error) {
	kind, id, _ := strings.Cut(p.Credential, ":")
	switch {
	case id == "":
	case kind == "jwt":
		revoked, err := d.tokenRevoked(ctx, id)
		if err != nil {
			return time.Time{}, err
		}
		if revoked {
			return time.Time{}, ErrRefused
		}
	case kind == "cert":
		return d.certificateIssued(ctx, p, id)
	}
	return p.Issued, nil
}

// refuses reports whether u may not authenticate with what was issued then.
func (u *user) refuses(issued time.Time, proves bool) bool {
	return u.Suspended || u.deleting || proves && issued.Before(u.NotBefore)
}

func (u *user) device(name string) int {
	return slices.IndexFunc(u.Devices, func(v Device) bool { return v.Name == name })
}

// introduce makes the record of a user or a device that is new.
func (d *Directory) introduce(ctx context.Context, name, device string, c Credential, issued time.Time) (*user, error) {
	_, u, err := d.alter(ctx, name, true, func(u *user) error {
		if u.refuses(issued, true) {
			return ErrRefused
		}
		if device == "" {
			if u.Rev != 0 { // somebody else was faster
				return errUnchanged
			}
			return nil
		}
		now := d.cfg.Clock.Now()
		if i := u.device(device); i >= 0 {
			u.Devices[i].Seen = now.Truncate(seenGrain)
			return nil
		}
		if len(u.Devices) >= MaxDevices {
			u.Devices = d.withoutOldest(u)
		}
		u.Devices = append(u.Devices, Device{
			Name: device, Display: clean(c.DeviceName), Platform: clean(c.Platform), Created: now, Seen: now,
		})
		return nil
	})
	if errors.Is(err, errUnchanged) {
		if u, err = d.load(ctx, name); u == nil && err == nil {
			err = ErrRefused // it has gone again
		}
	}
	return u, err
}

// withoutOldest are the devices of u but the one that was not seen for the
// longest time.
func (d *Directory) withoutOldest(u *user) []Device {
	seen := slices.Clone(u.Devices)
	d.pending.overlay(u.Name, seen)
	oldest := slices.MinFunc(seen, func(a, b Device) int { return a.Seen.Compare(b.Seen) })
	return slices.DeleteFunc(u.Devices, func(v Device) bool { return v.Name == oldest.Name })
}

// noteSeen notes that the device was here, unless that is written already.
func (d *Directory) noteSeen(u *user, device string) {
	now := d.cfg.Clock.Now().Truncate(seenGrain)
	if i := u.device(device); i >= 0 && u.Devices[i].Seen.Before(now) {
		d.pending.seen(parley.Identity{User: u.Name, Device: device}, now)
	}
}

// complete is p with what the record says; u is nil when there is none.
func (d *Directory) complete(p *Principal, u *user, id parley.Identity) *Principal {
	full := *p
	full.Identity = id
	if u != nil {
		full.Rev = u.Rev
	}
	if p.scoped {
		return &full
	}
	full.Grants = slices.Clone(p.Grants)
	full.Grants = append(full.Grants, d.cfg.Grants...)
	if u != nil {
		full.Grants = append(full.Grants, u.Grants...)
	}
	return &full
}
