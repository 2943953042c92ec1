package httpapi

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/account"
)

// Key is an API key, without its secret.
type Key struct {
	Key     string    `json:"key"`
	User    string    `json:"user"`
	Note    string    `json:"note,omitempty"`
	Grants  []string  `json:"grants"`
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires,omitzero"`
	Used    time.Time `json:"used,omitzero"`
}

// NewKey is a key that was just made. Its secret is shown this once.
type NewKey struct {
	Key

	Secret string `json:"secret"`
}

// Keys is one page of keys, in order of id.
type Keys struct {
	Keys []Key `json:"keys"`
	More bool  `json:"more"`
}

// Certificate is what is known of a client certificate.
type Certificate struct {
	Serial  string    `json:"serial"`
	User    string    `json:"user,omitempty"`
	Issued  time.Time `json:"issued,omitzero"`
	Expires time.Time `json:"expires,omitzero"`
	Revoked time.Time `json:"revoked,omitzero"`
}

// Certificates is one page of certificates, in order of serial.
type Certificates struct {
	Certificates []Certificate `json:"certificates"`
	More         bool          `json:"more"`
}

// Revoked names a credential that is not accepted any more.
type Revoked struct {
	ID    string    `json:"id"`
	Until time.Time `json:"until,omitzero"`
}

// issueToken makes a token for a user.
func (a *API) issueToken(w http.ResponseWriter, r *request) error {
	name, err := r.user()
	if err != nil {
		return err
	}
	v := struct {
		Device *string   `json:"device"`
		TTL    *string   `json:"ttl"`
		Grants grantList `json:"grants"`
	}{Grants: newGrantList()}
	if err := readObject(a, w, r, &v); err != nil {
		return err
	}
	want := TokenRequest{User: name}
	if want.TTL, err = lifetime(v.TTL); err != nil {
		return err
	}
	if want.Grants, err = account.ParseGrants(v.Grants.Items); err != nil {
		return err
	}
	if v.Device != nil {
		if want.Device, err = parley.ParseDevice(*v.Device); err != nil {
			return err
		}
	}
	if err := a.afterRevocation(r.Context(), name); err != nil {
		return err
	}
	made, err := a.cfg.Accounts.IssueToken(r.Context(), want)
	if err != nil {
		return err
	}
	a.cfg.Logger.InfoContext(r.Context(), "token issued", "user", name, "id", made.ID, "expires", made.Expires)
	return reply(w, http.StatusCreated, made)
}

// afterRevocation waits until a token that is issued counts: it says only in
// which second that was, and one of the second in which all tokens of the user
// were revoked is taken for older.
func (a *API) afterRevocation(ctx context.Context, name string) error {
	u, err := a.cfg.Accounts.Directory.User(ctx, name)
	if err != nil || u.NotBefore.IsZero() {
		return ignoreNotFound(err)
	}
	wait := time.Until(u.NotBefore.Truncate(time.Second).Add(time.Second))
	if wait <= 0 || wait > time.Second { // beyond that a clock was set, and waiting would not help
		return nil
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

func ignoreNotFound(err error) error {
	if err != nil && translate(err).Kind == "not_found" {
		return nil
	}
	return err
}

// revokeTokens refuses everything that was issued to a user so far.
func (a *API) revokeTokens(w http.ResponseWriter, r *request) error {
	name, err := r.user()
	if err != nil {
		return err
	}
	if err := a.cfg.Accounts.Directory.RevokeTokens(r.Context(), name); err != nil {
		return err
	}
	a.cfg.Logger.InfoContext(r.Context(), "credentials revoked", "user", name)
	u, err := a.cfg.Accounts.Directory.User(r.Context(), name)
	if err != nil {
		return err
	}
	return a.replyUser(w, r, http.StatusOK, u)
}

// revokeToken refuses one token.
func (a *API) revokeToken(w http.ResponseWriter, r *request) error {
	id := r.PathValue("id")
	var until time.Time
	if text, ok := r.query["until"]; ok {
		var err error
		if until, err = time.Parse(time.RFC3339Nano, text); err != nil {
			return invalid("until must be a time such as 2027-01-31T12:00:00Z")
		}
	}
	if err := a.cfg.Accounts.Directory.RevokeToken(r.Context(), id, until); err != nil {
		return err
	}
	a.cfg.Logger.InfoContext(r.Context(), "token revoked", "id", id)
	return reply(w, http.StatusOK, Revoked{ID: id, Until: wireTime(until)})
}

func keyView(k account.Key) Key {
	return Key{
		Key: k.ID, User: k.User, Note: k.Note, Grants: append([]string{}, account.FormatGrants(k.Grants)...),
		Created: wireTime(k.Created), Expires: wireTime(k.Expires), Used: wireTime(k.Used),
	}
}

// listKeys answers with a page of keys.
func (a *API) listKeys(w http.ResponseWriter, r *request) error {
	limit, err := r.number("limit", accountsDefault, accountsMost)
	if err != nil {
		return err
	}
	keys, more, err := take(a.cfg.Accounts.Directory.Keys(r.Context(), r.query["user"], r.query["after"]), limit, keyView)
	if err != nil {
		return err
	}
	return reply(w, http.StatusOK, Keys{keys, more})
}

// createKey makes a key, and shows its secret.
func (a *API) createKey(w http.ResponseWriter, r *request) error {
	v := struct {
		User    string     `json:"user"`
		Note    string     `json:"note"`
		Grants  grantList  `json:"grants"`
		Expires *time.Time `json:"expires"`
		TTL     *string    `json:"ttl"`
	}{Grants: newGrantList()}
	if err := readObject(a, w, r, &v); err != nil {
		return err
	}
	grants, err := account.ParseGrants(v.Grants.Items)
	if err != nil {
		return err
	}
	expires, err := endOf(v.Expires, v.TTL)
	if err != nil {
		return err
	}
	k, secret, err := a.cfg.Accounts.Directory.CreateKey(r.Context(), account.Key{User: v.User, Note: v.Note, Grants: grants, Expires: expires})
	if err != nil {
		return err
	}
	a.cfg.Logger.InfoContext(r.Context(), "key created", "user", k.User, "key", k.ID, "grants", len(k.Grants), "expires", k.Expires)
	return reply(w, http.StatusCreated, NewKey{keyView(k), secret})
}

// revokeKey ends a key.
func (a *API) revokeKey(w http.ResponseWriter, r *request) error {
	id := r.PathValue("id")
	if err := a.cfg.Accounts.Directory.RevokeKey(r.Context(), id); err != nil {
		return err
	}
	a.cfg.Logger.InfoContext(r.Context(), "key revoked", "key", id)
	return reply(w, http.StatusOK, Revoked{ID: id})
}

// CertificateOf is what is answered of a record.
func CertificateOf(c account.CertificateRecord) Certificate {
	return Certificate{Serial: c.Serial, User: c.User, Issued: wireTime(c.Issued), Expires: wireTime(c.Expires), Revoked: wireTime(c.Revoked)}
}

// listCertificates answers with a page of certificates.
func (a *API) listCertificates(w http.ResponseWriter, r *request) error {
	limit, err := r.number("limit", accountsDefault, accountsMost)
	if err != nil {
		return err
	}
	certs, more, err := take(a.cfg.Accounts.Directory.Certificates(r.Context(), r.query["user"], r.query["after"]), limit, CertificateOf)
	if err != nil {
		return err
	}
	return reply(w, http.StatusOK, Certificates{certs, more})
}

// issueCertificate makes a client certificate and its key.
func (a *API) issueCertificate(w http.ResponseWriter, r *request) error {
	var v struct {
		User string  `json:"user"`
		TTL  *string `json:"ttl"`
	}
	if err := readObject(a, w, r, &v); err != nil {
		return err
	}
	name, err := parley.ParseUser(v.User)
	if err != nil {
		return err
	}
	ttl, err := lifetime(v.TTL)
	if err != nil {
		return err
	}
	made, err := a.cfg.Accounts.IssueCertificate(r.Context(), CertificateRequest{User: name, TTL: ttl})
	if err != nil {
		return err
	}
	a.cfg.Logger.InfoContext(r.Context(), "certificate issued", "user", name, "serial", made.Serial, "expires", made.Expires)
	return reply(w, http.StatusCreated, made)
}

// revokeCertificate refuses a certificate.
func (a *API) revokeCertificate(w http.ResponseWriter, r *request) error {
	serial, err := account.ParseSerial(r.PathValue("serial"))
	if err != nil {
		return fmt.Errorf("the path: %w", err)
	}
	if err := a.cfg.Accounts.Directory.RevokeCertificate(r.Context(), serial); err != nil {
		return err
	}
	a.cfg.Logger.InfoContext(r.Context(), "certificate revoked", "serial", serial)
	return reply(w, http.StatusOK, Revoked{ID: serial})
}
