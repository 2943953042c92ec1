package account

import (
	"context"
	"errors"
	"fmt"

	"github.com/parley-im/parley"
)

// DeleteUser removes the user and everything of theirs, and tells how much that
// was; the error wraps parley.ErrNotFound when there was nothing. First nothing
// that proves them is accepted any more, and their sessions end; the record goes
// last. When it is broken off, by an error or a crash, the user cannot come back,
// and deleting again does the rest. Of the name a hash is kept, so that tokens of
// the time before are not accepted from who gets the name later.
func (d *Directory) DeleteUser(ctx context.Context, name string) (Removed, error) {
	name, err := parley.ParseUser(name)
	if err != nil {
		return Removed{}, err
	}
	known, err := d.beginDelete(ctx, name)
	if err != nil {
		return Removed{}, err
	}
	var removed Removed
	if d.cfg.Erase != nil {
		if removed.Erased, err = d.cfg.Erase(ctx, name); err != nil {
			return removed, err
		}
	}
	if !known {
		if removed == (Removed{}) {
			return removed, errNoUser
		}
		return removed, nil
	}
	defer d.lock(name)()
	for _, step := range []func(context.Context, string, *Removed) error{
		d.deleteDevices, d.deleteKeys, d.deleteCertificates, d.deleteLinks, d.deleteRecord,
	} {
		if err := step(ctx, name, &removed); err != nil {
			return removed, err
		}
	}
	return removed, nil
}

// beginDelete shuts the user out, and reports whether there is a record.
func (d *Directory) beginDelete(ctx context.Context, name string) (known bool, err error) {
	u, err := d.load(ctx, name)
	if err != nil {
		return false, err
	}
	if u == nil {
		d.end(func(p *Principal) bool { return p.User == name && p.Rev == 0 }, "the account is deleted")
		return false, nil
	}
	if err := d.set(ctx, goneKeys+fingerprint(name), d.cfg.Clock.Now()); err != nil {
		return true, err
	}
	_, after, err := d.alter(ctx, name, false, func(u *user) error {
		u.deleting, u.Suspended = true, true
		return nil
	})
	if errors.Is(err, parley.ErrNotFound) { // somebody else has finished
		return false, nil
	}
	if err != nil {
		return true, err
	}
	d.end(olderThan(after), "the account is deleted")
	return true, nil
}

func (d *Directory) deleteDevices(ctx context.Context, name string, removed *Removed) error {
	_, _, err := d.alterLocked(ctx, name, false, func(u *user) error {
		if removed.Devices = len(u.Devices); removed.Devices == 0 {
			return errUnchanged
		}
		u.Devices = nil
		return nil
	})
	if errors.Is(err, errUnchanged) || errors.Is(err, parley.ErrNotFound) {
		return nil
	}
	return err
}

// drop removes the records that a user has claimed, each before its claim, and
// counts them.
func (d *Directory) drop(ctx context.Context, user, prefix, kind string) (n int, err error) {
	for id, err := range d.claimed(ctx, user, kind, "") {
		if err != nil {
			return n, err
		}
		there, err := d.unset(ctx, prefix+id)
		if err == nil {
			err = d.release(ctx, user, kind, id)
		}
		if err != nil {
			return n, err
		}
		if there {
			n++
		}
	}
	return n, nil
}

func (d *Directory) deleteKeys(ctx context.Context, name string, removed *Removed) (err error) {
	removed.Keys, err = d.drop(ctx, name, apiKeys, "key")
	return err
}

func (d *Directory) deleteCertificates(ctx context.Context, name string, removed *Removed) (err error) {
	removed.Certificates, err = d.drop(ctx, name, certKeys, "cert")
	return err
}

func (d *Directory) deleteLinks(ctx context.Context, name string, removed *Removed) (err error) {
	removed.Links, err = d.drop(ctx, name, linkKeys, "link")
	return err
}

func (d *Directory) deleteRecord(ctx context.Context, name string, _ *Removed) error {
	_, err := d.unset(ctx, userKeys+name)
	d.users.drop(name)
	return err
}

// ForgetDevice removes a device with its cursors and ends its sessions. The
// user's credentials stay, so the device may come back as a new one.
func (d *Directory) ForgetDevice(ctx context.Context, name, device string) error {
	name, err := parley.ParseUser(name)
	if err != nil {
		return err
	}
	_, after, err := d.alter(ctx, name, false, func(u *user) error {
		i := u.device(device)
		if i < 0 {
			return fmt.Errorf("the user has no such device: %w", parley.ErrNotFound)
		}
		u.Devices = append(u.Devices[:i], u.Devices[i+1:]...)
		return nil
	})
	if err != nil {
		return err
	}
	older := olderThan(after)
	d.end(func(p *Principal) bool { return p.Device == device && older(p) }, "the device was removed")
	if d.cfg.EraseDevice == nil {
		return nil
	}
	return d.cfg.EraseDevice(ctx, name, device)
}
