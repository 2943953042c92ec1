package httpapi

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/account"
	"github.com/parley-im/parley/internal/units"
)

// User is one user.
type User struct {
	User      string    `json:"user"`
	Display   string    `json:"display,omitempty"`
	Email     string    `json:"email,omitempty"`
	Created   time.Time `json:"created"`
	Suspended bool      `json:"suspended"`
	// Grants are as account.ParseGrant reads them.
	Grants []string `json:"grants"`
	// Devices is how many there are.
	Devices int `json:"devices"`
	// Quota is what is set for the user: "default", "none" or a size; QuotaBytes is
	// what that comes to, 0 for without bound; UsedBytes is what is stored of it,
	// where anything is counted.
	Quota      string `json:"quota"`
	QuotaBytes int64  `json:"quota_bytes,omitempty"`
	UsedBytes  *int64 `json:"used_bytes,omitempty"`
	// NotBefore refuses credentials that were issued earlier.
	NotBefore time.Time `json:"not_before,omitzero"`
}

// Users is one page of users, in order of name.
type Users struct {
	Users []User `json:"users"`
	More  bool   `json:"more"`
}

// Device is one installation of a client.
type Device struct {
	Device   string    `json:"device"`
	Display  string    `json:"display,omitempty"`
	Platform string    `json:"platform,omitempty"`
	Created  time.Time `json:"created"`
	Seen     time.Time `json:"seen"`
}

// Devices are all devices of a user.
type Devices struct {
	Devices []Device `json:"devices"`
}

// Forgotten names what was removed.
type Forgotten struct {
	User   string `json:"user"`
	Device string `json:"device"`
}

// Deleted says what deleting a user removed.
type Deleted struct {
	User         string `json:"user"`
	Messages     int    `json:"messages"`
	DeadLetters  int    `json:"dead_letters"`
	Cursors      int    `json:"cursors"`
	Devices      int    `json:"devices"`
	Keys         int    `json:"keys"`
	Certificates int    `json:"certificates"`
	Links        int    `json:"links"`
}

// userOf is u with what is stored of theirs.
func (a *API) userOf(ctx context.Context, u account.User) (User, error) {
	shown := User{
		User: u.Name, Display: u.Display, Email: u.Email, Created: wireTime(u.Created), Suspended: u.Suspended,
		Grants: append([]string{}, account.FormatGrants(u.Grants)...), Devices: len(u.Devices), NotBefore: wireTime(u.NotBefore),
		Quota: formatQuota(u.Quota),
	}
	used, quota, known, err := a.cfg.Broker.Usage(ctx, u.Name)
	shown.QuotaBytes = quota
	if known {
		shown.UsedBytes = &used
	}
	return shown, err
}

// A user's quota as operators write it, beside a size.
const (
	quotaDefault = "default"
	quotaNone    = "none"
)

func formatQuota(n int64) string {
	switch {
	case n < 0:
		return quotaNone
	case n == 0:
		return quotaDefault
	}
	return units.FormatSize(n)
}

func parseQuota(s string) (int64, error) {
	switch s {
	case quotaDefault:
		return 0, nil
	case quotaNone:
		return account.NoQuota, nil
	}
	n, err := units.ParseSize(s)
	if err != nil || n < 1 || n > account.MaxQuota {
		return 0, invalid("quota must be default, none or a size of at most 1024TiB, such as 100MiB")
	}
	return n, nil
}

// userTag is the ETag of what PATCH changes. That a device was seen does not
// change it.
func userTag(u *account.User) string {
	p, err := json.Marshal([]any{u.Name, u.Display, u.Email, u.Created, u.Suspended, account.FormatGrants(u.Grants), u.NotBefore, u.Quota})
	if err != nil {
		panic("httpapi: " + err.Error()) // texts and times only
	}
	sum := sha256.Sum256(p)
	return `"` + hex.EncodeToString(sum[:12]) + `"`
}

func (a *API) replyUser(w http.ResponseWriter, r *request, status int, u account.User) error {
	shown, err := a.userOf(r.Context(), u)
	if err != nil {
		return err
	}
	w.Header().Set("ETag", userTag(&u))
	return reply(w, status, shown)
}

// listUsers answers with a page of users.
func (a *API) listUsers(w http.ResponseWriter, r *request) error {
	limit, err := r.number("limit", accountsDefault, accountsMost)
	if err != nil {
		return err
	}
	var failed error
	users, more, err := take(a.cfg.Accounts.Directory.Users(r.Context(), strings.ToLower(r.query["after"])), limit, func(u account.User) User {
		shown, err := a.userOf(r.Context(), u)
		failed = cmp.Or(failed, err)
		return shown
	})
	if err = cmp.Or(err, failed); err != nil {
		return err
	}
	return reply(w, http.StatusOK, Users{users, more})
}

// userBody is a user as an operator writes it.
type userBody struct {
	User      *string   `json:"user"`
	Display   *string   `json:"display"`
	Email     *string   `json:"email"`
	Suspended *bool     `json:"suspended"`
	Grants    grantList `json:"grants"`
	Quota     *string   `json:"quota"`
}

// apply puts into u what b gives.
func (b *userBody) apply(u *account.User) error {
	for _, field := range []struct{ from, to *string }{{b.Display, &u.Display}, {b.Email, &u.Email}} {
		if field.from != nil {
			*field.to = *field.from
		}
	}
	if b.Suspended != nil {
		u.Suspended = *b.Suspended
	}
	if b.Quota != nil {
		n, err := parseQuota(*b.Quota)
		if err != nil {
			return err
		}
		u.Quota = n
	}
	if b.Grants.Items == nil {
		return nil
	}
	grants, err := account.ParseGrants(b.Grants.Items)
	u.Grants = grants
	return err
}

// createUser makes a user.
func (a *API) createUser(w http.ResponseWriter, r *request) error {
	v := userBody{Grants: newGrantList()}
	if err := readObject(a, w, r, &v); err != nil {
		return err
	}
	if v.User == nil {
		return invalid("user is missing: the name")
	}
	u := account.User{Name: *v.User}
	if err := v.apply(&u); err != nil {
		return err
	}
	u, err := a.cfg.Accounts.Directory.CreateUser(r.Context(), u)
	if err != nil {
		return err
	}
	a.cfg.Logger.InfoContext(r.Context(), "user created", "user", u.Name)
	w.Header().Set("Location", prefix+"users/"+url.PathEscape(u.Name))
	return a.replyUser(w, r, http.StatusCreated, u)
}

// showUser answers with one user.
func (a *API) showUser(w http.ResponseWriter, r *request) error {
	u, err := a.cfg.Accounts.Directory.User(r.Context(), r.PathValue("user"))
	if err != nil {
		return err
	}
	return a.replyUser(w, r, http.StatusOK, u)
}

// changeUser changes what the body gives.
func (a *API) changeUser(w http.ResponseWriter, r *request) error {
	v := userBody{Grants: newGrantList()}
	if err := readObject(a, w, r, &v); err != nil {
		return err
	}
	switch {
	case v.User != nil:
		return invalid("the name of a user cannot be changed")
	case v.Display == nil && v.Email == nil && v.Suspended == nil && v.Grants.Items == nil && v.Quota == nil:
		return invalid("give display, email, suspended, grants or quota")
	}
	match := r.Header.Values("If-Match")
	if len(match) > 1 {
		return invalid("only one If-Match")
	}
	var before account.User
	u, err := a.cfg.Accounts.Directory.ChangeUser(r.Context(), r.PathValue("user"), func(u *account.User) error {
		if len(match) == 1 && strings.TrimSpace(match[0]) != "*" && strings.TrimSpace(match[0]) != userTag(u) {
			return failure(http.StatusPreconditionFailed, "the user has changed meanwhile")
		}
		before = *u
		return v.apply(u)
	})
	if err != nil {
		return err
	}
	a.cfg.Logger.InfoContext(r.Context(), "user changed", "user", u.Name, "suspended", u.Suspended, "was_suspended", before.Suspended,
		"grants", len(u.Grants), "had_grants", len(before.Grants), "quota", formatQuota(u.Quota), "had_quota", formatQuota(before.Quota))
	return a.replyUser(w, r, http.StatusOK, u)
}

// deleteUser removes a user with everything of theirs.
func (a *API) deleteUser(w http.ResponseWriter, r *request) error {
	name, err := r.user()
	if err != nil {
		return err
	}
	n, err := a.cfg.Accounts.Directory.DeleteUser(r.Context(), name)
	if err != nil {
		return err
	}
	a.cfg.Logger.InfoContext(r.Context(), "user deleted", "user", name, "messages", n.Messages, "devices", n.Devices,
		"keys", n.Keys, "certificates", n.Certificates)
	return reply(w, http.StatusOK, Deleted{
		User: name, Messages: n.Messages, DeadLetters: n.DeadLetters, Cursors: n.Cursors, Devices: n.Devices,
		Keys: n.Keys, Certificates: n.Certificates, Links: n.Links,
	})
}

// listDevices answers with a user's devices.
func (a *API) listDevices(w http.ResponseWriter, r *request) error {
	u, err := a.cfg.Accounts.Directory.User(r.Context(), r.PathValue("user"))
	if err != nil {
		return err
	}
	devices := []Device{}
	for _, v := range u.Devices {
		devices = append(devices, Device{v.Name, v.Display, v.Platform, wireTime(v.Created), wireTime(v.Seen)})
	}
	return reply(w, http.StatusOK, Devices{devices})
}

// forgetDevice removes a device.
func (a *API) forgetDevice(w http.ResponseWriter, r *request) error {
	name, err := r.user()
	if err != nil {
		return err
	}
	device, err := parley.ParseDevice(r.PathValue("device"))
	if err != nil {
		return err
	}
	if err := a.cfg.Accounts.Directory.ForgetDevice(r.Context(), name, device); err != nil {
		return err
	}
	a.cfg.Logger.InfoContext(r.Context(), "device forgotten", "user", name, "device", device)
	return reply(w, http.StatusOK, Forgotten{name, device})
}

// exportUser streams everything that is stored of a user. It takes as long as the
// client goes on reading, so it is no route with a time.
func (a *API) exportUser(w http.ResponseWriter, r *http.Request) {
	fail := func(err error) { a.fail(w, r, err) }
	if r.URL.RawQuery != "" {
		fail(invalid("there are no parameters here"))
		return
	}
	name, err := parley.ParseUser(r.PathValue("user"))
	if err != nil {
		fail(err)
		return
	}
	body := &patient{w: w, control: http.NewResponseController(w), contentType: linesType}
	// The request was read; the server's time for that would end the context.
	if err := body.control.SetReadDeadline(time.Time{}); err != nil && !errors.Is(err, http.ErrNotSupported) {
		fail(err)
		return
	}
	out := &gathered{to: body}
	err = a.cfg.Accounts.Directory.Export(r.Context(), name, out)
	if err == nil {
		err = out.flush()
	}
	switch {
	case err == nil:
		a.cfg.Logger.InfoContext(r.Context(), "user exported", "user", name, "bytes", body.sent)
	case body.sent == 0:
		fail(err)
	default:
		a.cfg.Logger.WarnContext(r.Context(), "export broken off", "user", name, "bytes", body.sent, "error", err)
		_ = body.control.SetWriteDeadline(time.Unix(1, 0)) // the end of the answer must not be written either
	}
}

// gathered writes lines in pieces that are worth a system call.
type gathered struct {
	to  io.Writer
	buf bytes.Buffer
}

func (g *gathered) Write(p []byte) (int, error) {
	const piece = 32 << 10
	g.buf.Write(p)
	if g.buf.Len() < piece {
		return len(p), nil
	}
	return len(p), g.flush()
}

func (g *gathered) flush() error {
	_, err := g.to.Write(g.buf.Bytes())
	g.buf.Reset()
	return err
}
