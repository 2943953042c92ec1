package account

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/backend"
)

// CertificateRecord is a client certificate that this server's CA has issued.
type CertificateRecord struct {
	Serial  string // hexadecimal; it is the device too
	User    string // empty when the serial was revoked and is not known
	Issued  time.Time
	Expires time.Time
	Revoked time.Time // zero: it is not
}

// certRecord is how it is kept.
type certRecord struct {
	User    string    `json:"user,omitempty"`
	Issued  time.Time `json:"issued,omitzero"`
	Expires time.Time `json:"expires,omitzero"`
	Revoked time.Time `json:"revoked,omitzero"`
}

// ParseSerial checks the serial number of a certificate, at most 20 bytes in
// hexadecimal, and returns it in lower case without leading zeros.
func ParseSerial(s string) (string, error) {
	const most = 40
	hex := func(c rune) bool { return (c < '0' || c > '9') && (c < 'a' || c > 'f') }
	low := strings.ToLower(s)
	if low == "" || len(low) > most || strings.ContainsFunc(low, hex) {
		return "", fmt.Errorf("a serial has 1 to %d hex digits: %w", most, parley.ErrInvalid)
	}
	if trimmed := strings.TrimLeft(low, "0"); trimmed != "" {
		return trimmed, nil
	}
	return "0", nil
}

// RecordCertificate notes a client certificate that was issued; call it before
// anybody gets it. A user has at most MaxCertificates: the one that was issued
// first makes room for a new one, and is not accepted any more.
func (d *Directory) RecordCertificate(ctx context.Context, c CertificateRecord) error {
	var err error
	if c.Serial, err = ParseSerial(c.Serial); err != nil {
		return err
	}
	if c.User, err = parley.ParseUser(c.User); err != nil {
		return err
	}
	// What a certificate says may be set back for clocks that are slow; what counts
	// is when it was made.
	if now := d.cfg.Clock.Now(); c.Issued.Before(now) {
		c.Issued = now
	}
	gone, err := d.record(ctx, c)
	if gone != "" {
		d.endCredential("cert:"+gone, "a newer certificate took its place")
	}
	return err
}

// record writes the record of a certificate. Gone is the serial of one that made
// room for it.
func (d *Directory) record(ctx context.Context, c CertificateRecord) (gone string, err error) {
	defer d.lock(c.User)()
	if err := d.ensureLocked(ctx, c.User); err != nil {
		return "", err
	}
	if gone, err = d.makeRoom(ctx, c.User, c.Issued); err != nil {
		return gone, err
	}
	if err := d.claim(ctx, c.User, "cert", c.Serial); err != nil {
		return gone, err
	}
	err = d.replace(ctx, backend.Record{Key: certKeys + c.Serial}, certRecord{User: c.User, Issued: c.Issued, Expires: c.Expires})
	if errors.Is(err, parley.ErrConflict) {
		return gone, fmt.Errorf("there is a certificate with that serial: %w", parley.ErrConflict)
	}
	return gone, err
}

// makeRoom drops the records of a user's oldest certificates when there are too
// many. That they are not accepted is noted in the user's record first.
func (d *Directory) makeRoom(ctx context.Context, name string, issued time.Time) (gone string, err error) {
	var oldest CertificateRecord
	n := 0
	for c, err := range d.Certificates(ctx, name, "") {
		if err != nil {
			return "", err
		}
		if n++; oldest.Serial == "" || c.Issued.Before(oldest.Issued) {
			oldest = c
		}
	}
	if n < MaxCertificates {
		return "", nil
	}
	if !issued.After(oldest.Issued) {
		return "", fmt.Errorf("the user has %d newer certificates: %w", n, parley.ErrConflict)
	}
	_, _, err = d.alterLocked(ctx, name, false, func(u *user) error {
		if from := oldest.Issued.Add(time.Nanosecond); from.After(u.certificates) {
			u.certificates = from
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	return oldest.Serial, d.dropCertificate(ctx, name, oldest.Serial)
}

func (d *Directory) dropCertificate(ctx context.Context, user, serial string) error {
	_, err := d.unset(ctx, certKeys+serial)
	return errors.Join(err, d.release(ctx, user, "cert", serial))
}

// Certificates lists them, of a user or of all, by serial from the first after
// the given one.
func (d *Directory) Certificates(ctx context.Context, user, after string) iter.Seq2[CertificateRecord, error] {
	return func(yield func(CertificateRecord, error) bool) {
		for serial, r := range d.records(ctx, certKeys, user, "cert", after) {
			var kept certRecord
			err := r.err
			if err == nil {
				err = decode(r.Record, &kept)
			}
			c := CertificateRecord{Serial: serial, User: kept.User, Issued: kept.Issued, Expires: kept.Expires, Revoked: kept.Revoked}
			if !yield(c, err) || err != nil {
				return
			}
		}
	}
}

// RevokeCertificate refuses the certificate with that serial from now on. It need
// not be known here: the CA may have issued it elsewhere.
func (d *Directory) RevokeCertificate(ctx context.Context, serial string) error {
	serial, err := ParseSerial(serial)
	if err != nil {
		return err
	}
	for range attempts {
		var r certRecord
		record, err := d.cfg.KV.Get(ctx, certKeys+serial)
		switch {
		case errors.Is(err, parley.ErrNotFound):
			record.Key = certKeys + serial
		case err != nil:
			return err
		default:
			if err := decode(record, &r); err != nil {
				return err
			}
		}
		if r.Revoked.IsZero() {
			r.Revoked = d.cfg.Clock.Now()
			err = d.replace(ctx, record, r)
		}
		if !errors.Is(err, parley.ErrConflict) {
			if err == nil {
				d.endCredential("cert:"+serial, "the certificate was revoked")
			}
			return err
		}
	}
	return errRaced
}

// replace writes v in place of record, which is new when it has no Rev.
func (d *Directory) replace(ctx context.Context, record backend.Record, v any) error {
	value, err := json.Marshal(v)
	if err != nil {
		return err
	}
	record.Value = value
	_, err = d.cfg.KV.Put(ctx, record)
	return err
}

// certificateIssued refuses a certificate that was revoked, has made room for a
// newer one or is another user's, and tells when it was issued: what the
// certificate says of that may be set back for clocks that are slow.
func (d *Directory) certificateIssued(ctx context.Context, p *Principal, serial string) (time.Time, error) {
	serial, err := ParseSerial(serial)
	if err != nil {
		return time.Time{}, ErrRefused
	}
	var r certRecord
	there, err := d.get(ctx, certKeys+serial, &r)
	if err != nil {
		return time.Time{}, err
	}
	user, err := parley.ParseUser(p.User)
	if err != nil || !r.Revoked.IsZero() || there && r.User != user {
		return time.Time{}, ErrRefused
	}
	issued := p.Issued
	if r.Issued.After(issued) {
		issued = r.Issued
	}
	u, err := d.load(ctx, user)
	if err != nil {
		return time.Time{}, err
	}
	if u != nil && issued.Before(u.certificates) {
		return time.Time{}, ErrRefused
	}
	return issued, nil
}
