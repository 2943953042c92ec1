package account

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/backend"
)

// attempts bounds how often a change is tried when others change the record too:
// with one writer, not even twice.
const attempts = 8

// errDeleting is what a change of a user gets whose deletion has begun.
var errDeleting = fmt.Errorf("the user is being deleted: %w", parley.ErrConflict)

// load reads a user from the cache or the record; nil when there is none.
func (d *Directory) load(ctx context.Context, name string) (*user, error) {
	if u := d.users.get(name); u != nil {
		return u, nil
	}
	defer d.lock(name)()
	return d.loadLocked(ctx, name)
}

func (d *Directory) loadLocked(ctx context.Context, name string) (*user, error) {
	if u := d.users.get(name); u != nil {
		return u, nil
	}
	record, err := d.cfg.KV.Get(ctx, userKeys+name)
	if errors.Is(err, parley.ErrNotFound) {
		return nil, nil //nolint:nilnil // that there is none is no error here
	}
	if err != nil {
		return nil, err
	}
	u, err := decodeUser(record)
	if err == nil {
		d.users.put(u)
	}
	return u, err
}

// alter lets change make a new version of a user's record, and returns both.
// Unless make is set, the error wraps parley.ErrNotFound when there is no record;
// otherwise before is nil then, and change begins with an empty one.
func (d *Directory) alter(ctx context.Context, name string, create bool, change func(*user) error) (before, after *user, err error) {
	defer d.lock(name)()
	for range attempts {
		before, after, err = d.alterLocked(ctx, name, create, change)
		if !errors.Is(err, errRaced) {
			break
		}
	}
	return before, after, err
}

var errRaced = fmt.Errorf("the record is being changed by others, try again: %w", parley.ErrConflict)

func (d *Directory) alterLocked(ctx context.Context, name string, create bool, change func(*user) error) (before, after *user, err error) {
	before, err = d.loadLocked(ctx, name)
	if err != nil {
		return nil, nil, err
	}
	after = &user{}
	switch {
	case before == nil && !create:
		return nil, nil, errNoUser
	case before == nil:
		after.Name, after.Created = name, d.cfg.Clock.Now()
		if after.NotBefore, err = d.buried(ctx, name); err != nil {
			return nil, nil, err
		}
	default:
		*after = *before
		after.Grants, after.Devices = slices.Clone(before.Grants), slices.Clone(before.Devices)
	}
	if err := change(after); err != nil {
		return before, nil, err
	}
	value, err := after.encode()
	if err != nil {
		return before, nil, err
	}
	rev, err := d.cfg.KV.Put(ctx, backend.Record{Key: userKeys + name, Value: value, Rev: after.Rev})
	if err != nil {
		d.users.drop(name) // whatever is there now
		if errors.Is(err, parley.ErrConflict) {
			err = errRaced
		}
		return before, nil, err
	}
	after.Rev, after.size = rev, len(userKeys)+len(name)+len(value)
	d.users.put(after)
	return before, after, nil
}

// CreateUser makes a new user; the error wraps parley.ErrConflict when there is
// one of that name, and parley.ErrInvalid when a rule is broken. Devices are not
// taken from u.
func (d *Directory) CreateUser(ctx context.Context, u User) (User, error) {
	name, err := parley.ParseUser(u.Name)
	if err != nil {
		return User{}, err
	}
	_, after, err := d.alter(ctx, name, true, func(made *user) error {
		if made.Rev != 0 {
			return fmt.Errorf("there is a user of that name: %w", parley.ErrConflict)
		}
		made.Display, made.Email, made.Suspended, made.Grants = u.Display, u.Email, u.Suspended, slices.Clone(u.Grants)
		made.Quota = u.Quota
		return d.prepare(ctx, made)
	})
	if err != nil {
		return User{}, err
	}
	return d.shown(after), nil
}

// prepare tells which rule u breaks, and does what must be done before u is kept.
func (d *Directory) prepare(ctx context.Context, u *user) error {
	err := errors.Join(checkText("display name", u.Display), checkText("e-mail address", u.Email), checkGrants(u.Grants), checkQuota(u.Quota))
	if err == nil && u.Quota > 0 && d.cfg.Meter != nil {
		err = d.cfg.Meter(ctx)
	}
	return err
}

// User finds one; the error wraps parley.ErrNotFound.
func (d *Directory) User(ctx context.Context, name string) (User, error) {
	name, err := parley.ParseUser(name)
	if err != nil {
		return User{}, err
	}
	u, err := d.load(ctx, name)
	if err != nil {
		return User{}, err
	}
	if u == nil {
		return User{}, errNoUser
	}
	return d.shown(u), nil
}

// shown is u as others may have it: theirs to change, and with what is yet to be
// written.
func (d *Directory) shown(u *user) User {
	v := u.User
	v.Grants, v.Devices = slices.Clone(u.Grants), slices.Clone(u.Devices)
	d.pending.overlay(v.Name, v.Devices)
	return v
}

// Users lists them by name, from the first after the given one. It is no
// snapshot.
func (d *Directory) Users(ctx context.Context, after string) iter.Seq2[User, error] {
	return func(yield func(User, error) bool) {
		for record, err := range d.scan(ctx, userKeys, after) {
			if err != nil {
				yield(User{}, err)
				return
			}
			u, err := decodeUser(record)
			if err != nil {
				yield(User{}, err)
				return
			}
			if !yield(d.shown(u), nil) {
				return
			}
		}
	}
}

// scan yields the records under prefix whose keys are after prefix+after.
func (d *Directory) scan(ctx context.Context, prefix, after string) iter.Seq2[backend.Record, error] {
	if kv, ok := d.cfg.KV.(backend.Seeker); ok && after != "" {
		return kv.ScanAfter(ctx, prefix, prefix+after)
	}
	return func(yield func(backend.Record, error) bool) {
		for record, err := range d.cfg.KV.Scan(ctx, prefix) {
			if err == nil && record.Key <= prefix+after {
				continue
			}
			if !yield(record, err) || err != nil {
				return
			}
		}
	}
}

// ChangeUser lets change alter the display name, the e-mail address, the grants,
// the quota and whether the user is suspended; it is called again when somebody else
// changed the record meanwhile. A change that suspends, or takes grants away,
// ends sessions.
func (d *Directory) ChangeUser(ctx context.Context, name string, change func(*User) error) (User, error) {
	name, err := parley.ParseUser(name)
	if err != nil {
		return User{}, err
	}
	before, after, err := d.alter(ctx, name, false, func(u *user) error {
		if u.deleting {
			return errDeleting
		}
		v := d.shown(u)
		if err := change(&v); err != nil {
			return err
		}
		u.Display, u.Email, u.Suspended, u.Grants = v.Display, v.Email, v.Suspended, slices.Clone(v.Grants)
		u.Quota = v.Quota
		return d.prepare(ctx, u)
	})
	if err != nil {
		return User{}, err
	}
	switch {
	case after.Suspended && !before.Suspended:
		d.end(olderThan(after), "the account is suspended")
	case narrowed(before.Grants, after.Grants):
		d.end(olderThan(after), "the permissions have changed")
	}
	return d.shown(after), nil
}

// olderThan matches the user's principals that were made of an older record.
func olderThan(u *user) func(*Principal) bool {
	name, rev := u.Name, u.Rev
	return func(p *Principal) bool { return p.User == name && p.Rev < rev }
}

// narrowed reports whether after takes away something that before has.
func narrowed(before, after []Grant) bool {
	return slices.ContainsFunc(before, func(old Grant) bool {
		left := old.Operations
		for _, g := range after {
			if g.Pattern == old.Pattern {
				left &^= g.Operations
			}
		}
		return left != 0
	})
}

// buried is since when a user of that name who was deleted is gone; their
// credentials were issued before. Only a hash of the name is kept.
func (d *Directory) buried(ctx context.Context, name string) (time.Time, error) {
	var t time.Time
	_, err := d.get(ctx, goneKeys+fingerprint(name), &t)
	return t, err
}

// set writes a record in place of whatever is there.
func (d *Directory) set(ctx context.Context, key string, v any) error {
	value, err := json.Marshal(v)
	if err != nil {
		return err
	}
	for range attempts {
		old, err := d.cfg.KV.Get(ctx, key)
		if err != nil && !errors.Is(err, parley.ErrNotFound) {
			return err
		}
		_, err = d.cfg.KV.Put(ctx, backend.Record{Key: key, Value: value, Rev: old.Rev})
		if !errors.Is(err, parley.ErrConflict) {
			return err
		}
	}
	return errRaced
}

// unset removes a record, and reports whether there was one.
func (d *Directory) unset(ctx context.Context, key string) (bool, error) {
	for range attempts {
		old, err := d.cfg.KV.Get(ctx, key)
		if err == nil {
			err = d.cfg.KV.Delete(ctx, key, old.Rev)
		}
		switch {
		case errors.Is(err, parley.ErrNotFound):
			return false, nil
		case !errors.Is(err, parley.ErrConflict):
			return err == nil, err
		}
	}
	return false, errRaced
}

// get reads a record into v, and reports whether there is one.
func (d *Directory) get(ctx context.Context, key string, v any) (bool, error) {
	record, err := d.cfg.KV.Get(ctx, key)
	if errors.Is(err, parley.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, decode(record, v)
}

func decode(record backend.Record, v any) error {
	if err := json.Unmarshal(record.Value, v); err != nil {
		return fmt.Errorf("account: record %q: %w", record.Key, err)
	}
	return nil
}

// claim notes that there may be a record of that kind which belongs to user.
func (d *Directory) claim(ctx context.Context, user, kind, id string) error {
	return d.set(ctx, ownedKeys+user+"/"+kind+"/"+id, d.cfg.Clock.Now())
}

// claimed yields the ids of the records of that kind which may belong to user.
func (d *Directory) claimed(ctx context.Context, user, kind, after string) iter.Seq2[string, error] {
	prefix := ownedKeys + user + "/" + kind + "/"
	return func(yield func(string, error) bool) {
		for record, err := range d.scan(ctx, prefix, after) {
			if !yield(strings.TrimPrefix(record.Key, prefix), err) || err != nil {
				return
			}
		}
	}
}

// release takes a claim back.
func (d *Directory) release(ctx context.Context, user, kind, id string) error {
	_, err := d.unset(ctx, ownedKeys+user+"/"+kind+"/"+id)
	return err
}
