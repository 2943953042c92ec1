package account

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"time"

	"github.com/parley-im/parley"
)

// Export writes everything that is stored about one user, an object of JSON on
// each line, whose member "kind" says what it is: first "user", then "device",
// "key" (without its secret), "certificate" and "link", then what Config.Export
// writes of messages. A user without a record may have messages; the error wraps
// parley.ErrNotFound when there is nothing of either.
func (d *Directory) Export(ctx context.Context, name string, w io.Writer) error {
	name, err := parley.ParseUser(name)
	if err != nil {
		return err
	}
	lines := json.NewEncoder(w)
	lines.SetEscapeHTML(false)
	u, err := d.User(ctx, name)
	known := err == nil
	if known {
		err = d.exportRecords(ctx, u, lines)
	} else if errors.Is(err, parley.ErrNotFound) {
		err = nil
	}
	if err != nil {
		return err
	}
	count := &counting{w: w}
	if d.cfg.Export != nil {
		err = d.cfg.Export(ctx, name, count)
	}
	if err == nil && !known && count.n == 0 {
		err = errNoUser
	}
	return err
}

// counting counts what is written.
type counting struct {
	w io.Writer
	n int
}

func (c *counting) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += n
	return n, err
}

func (d *Directory) exportRecords(ctx context.Context, u User, lines *json.Encoder) error {
	if err := lines.Encode(exportedUser{
		Kind: "user", User: u.Name, Display: u.Display, Email: u.Email, Created: u.Created, Suspended: u.Suspended, Quota: u.Quota,
		Grants: FormatGrants(u.Grants), NotBefore: u.NotBefore,
	}); err != nil {
		return err
	}
	for _, v := range u.Devices {
		if err := lines.Encode(exportedDevice{"device", deviceRecord(v)}); err != nil {
			return err
		}
	}
	for k, err := range d.Keys(ctx, u.Name, "") {
		if err != nil {
			return err
		}
		if err := lines.Encode(exportedKey{
			Kind: "key", ID: k.ID, Note: k.Note, Grants: FormatGrants(k.Grants), Created: k.Created, Expires: k.Expires, Used: k.Used,
		}); err != nil {
			return err
		}
	}
	for c, err := range d.Certificates(ctx, u.Name, "") {
		if err != nil {
			return err
		}
		if err := lines.Encode(exportedCertificate{"certificate", c.Serial, c.Issued, c.Expires, c.Revoked}); err != nil {
			return err
		}
	}
	for _, record := range d.records(ctx, linkKeys, u.Name, "link", "") {
		var r linkRecord
		if record.err != nil {
			return record.err
		}
		if err := decode(record.Record, &r); err != nil {
			return err
		}
		if err := lines.Encode(exportedLink{"link", r.Issuer, r.Subject, r.Created}); err != nil {
			return err
		}
	}
	return nil
}

type exportedUser struct {
	Kind      string    `json:"kind"`
	User      string    `json:"user"`
	Display   string    `json:"display,omitempty"`
	Email     string    `json:"email,omitempty"`
	Created   time.Time `json:"created"`
	Suspended bool      `json:"suspended,omitempty"`
	Quota     int64     `json:"quota,omitempty"`
	Grants    []string  `json:"grants,omitempty"`
	NotBefore time.Time `json:"not_before,omitzero"`
}

type exportedDevice struct {
	Kind string `json:"kind"`

	deviceRecord
}

type exportedKey struct {
	Kind    string    `json:"kind"`
	ID      string    `json:"id"`
	Note    string    `json:"note,omitempty"`
	Grants  []string  `json:"grants,omitempty"`
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires,omitzero"`
	Used    time.Time `json:"used,omitzero"`
}

type exportedCertificate struct {
	Kind    string    `json:"kind"`
	Serial  string    `json:"serial"`
	Issued  time.Time `json:"issued"`
	Expires time.Time `json:"expires,omitzero"`
	Revoked time.Time `json:"revoked,omitzero"`
}

type exportedLink struct {
	Kind    string    `json:"kind"`
	Issuer  string    `json:"issuer"`
	Subject string    `json:"subject"`
	Created time.Time `json:"created"`
}
