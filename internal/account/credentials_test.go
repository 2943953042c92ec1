package account_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/account"
)

func (w *world) verify(t *testing.T, secret string) (*account.Principal, error) {
	t.Helper()
	p, err := w.VerifyKey(t.Context(), secret)
	if err != nil {
		return nil, err
	}
	return w.Admit(t.Context(), p, account.Credential{Kind: account.APIKey})
}

func TestKeys(t *testing.T) {
	w := newWorld(t, nil)
	ctx := t.Context()
	if _, err := w.CreateUser(ctx, account.User{Name: "billing", Grants: []account.Grant{grant(t, "all:/invoices")}}); err != nil {
		t.Fatal(err)
	}
	k, secret, err := w.CreateKey(ctx, account.Key{User: "Billing", Note: "the shop", Grants: []account.Grant{grant(t, "publish:/orders")}, Expires: w.now().Add(time.Hour)})
	if err != nil || !strings.HasPrefix(secret, account.KeyPrefix+k.ID) || len(secret) < 48 {
		t.Fatalf("made %+v, a secret of %d characters, %v", k, len(secret), err)
	}
	p, err := w.verify(t, secret)
	if err != nil || p.User != "billing" || p.Credential != "key:"+k.ID || !p.Expires.Equal(k.Expires) {
		t.Fatalf("it proves %+v, %v", p, err)
	}
	if p.Allow(account.Publish, "/orders") != nil || p.Allow(account.Publish, "/invoices") == nil {
		t.Error("a key with grants may more than they say")
	}
	if p.Allow(account.History, "/$inbox/billing") == nil || p.Allow(account.Subscribe, "/$inbox/billing") == nil {
		t.Error("a key with grants reads its user's inbox, which they do not say")
	}
	read, reader, err := w.CreateKey(ctx, account.Key{User: "billing", Grants: []account.Grant{grant(t, "subscribe,history:/$inbox/{user}"), grant(t, "history:/$inbox/*")}})
	if err != nil {
		t.Fatal(err)
	}
	if p, err := w.verify(t, reader); err != nil || p.Allow(account.Subscribe, "/$inbox/billing/ann") != nil || p.Allow(account.History, "/$inbox/ann") == nil {
		t.Errorf("a key for its user's inbox reads another, or not that one: %v", err)
	}
	if err := w.RevokeKey(ctx, read.ID); err != nil {
		t.Fatal(err)
	}
	_, free, err := w.CreateKey(ctx, account.Key{User: "billing"})
	if err != nil {
		t.Fatal(err)
	}
	if p, err := w.verify(t, free); err != nil || p.Allow(account.Publish, "/invoices") != nil {
		t.Errorf("a key without grants may not what its user may: %v", err)
	}
	for name, bad := range map[string]string{
		"nothing": "", "a prefix": account.KeyPrefix, "a digit more": secret + "0", "a digit changed": flip(secret, len(secret)-1),
		"another id": flip(secret, len(account.KeyPrefix)), "upper case": strings.ToUpper(secret), "no hex": secret[:len(secret)-1] + "x",
		"another's tail": secret[:23] + free[23:], "a NUL": account.KeyPrefix + strings.Repeat("\x00", 56), "long": strings.Repeat("x", 1<<20),
	} {
		if _, err := w.VerifyKey(ctx, bad); !errors.Is(err, parley.ErrUnauthenticated) {
			t.Errorf("%s is answered by %v", name, err)
		}
	}
	for r, err := range w.kv.Scan(ctx, "") {
		if err != nil || strings.Contains(string(r.Value)+r.Key, secret[len(secret)-40:]) {
			t.Errorf("the record %s holds the secret: %v", r.Key, err)
		}
	}
	w.Flush(ctx)
	for got, err := range w.Keys(ctx, "billing", "") {
		if err != nil || got.ID == k.ID && (got.Note != "the shop" || got.Used.IsZero() || !slices.Equal(got.Grants, k.Grants)) {
			t.Errorf("the list has %+v, %v", got, err)
		}
	}
	w.pass(time.Hour + time.Second)
	if _, err := w.verify(t, secret); !errors.Is(err, parley.ErrUnauthenticated) {
		t.Errorf("it is accepted after its end: %v", err)
	}
	p, err = w.verify(t, free)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.RevokeKey(ctx, strings.TrimPrefix(p.Credential, "key:")); err != nil || !w.ended(p) {
		t.Errorf("revoking: %v, ended %v", err, w.ended(p))
	}
	if _, err := w.verify(t, free); !errors.Is(err, parley.ErrUnauthenticated) {
		t.Errorf("a revoked key is answered by %v", err)
	}
	w.pass(31 * 24 * time.Hour)
	if err := w.Sweep(ctx); err != nil {
		t.Fatal(err)
	}
	for got, err := range w.Keys(ctx, "", "") {
		t.Errorf("a month later there is %+v, %v", got, err)
	}
}

func flip(s string, i int) string {
	c := byte('0')
	if s[i] == c {
		c = '1'
	}
	return s[:i] + string(c) + s[i+1:]
}

func TestKeysAreBounded(t *testing.T) {
	w := newWorld(t, nil)
	for i := range account.MaxKeys + 1 {
		_, _, err := w.CreateKey(t.Context(), account.Key{User: "ann"})
		if full := i == account.MaxKeys; errors.Is(err, parley.ErrConflict) != full {
			t.Fatalf("key %d: %v", i, err)
		}
	}
}

func TestCertificates(t *testing.T) {
	w := newWorld(t, nil)
	ctx := t.Context()
	record := func(serial string) account.CertificateRecord {
		w.pass(time.Minute)
		return account.CertificateRecord{Serial: serial, User: "ann", Issued: w.now(), Expires: w.now().Add(24 * time.Hour)}
	}
	begun := w.now()
	cert := func(serial string) *account.Principal {
		// What the certificate says is set back.
		return &account.Principal{Identity: parley.Identity{User: "ann", Device: serial}, Issued: begun.Add(-time.Hour), Credential: "cert:" + serial}
	}
	if err := w.RecordCertificate(ctx, record("0A1")); err != nil {
		t.Fatal(err)
	}
	if err := w.RecordCertificate(ctx, record("a1")); !errors.Is(err, parley.ErrConflict) {
		t.Errorf("the same serial again: %v", err)
	}
	w.admit(t, cert("a1"))
	stolen := cert("a1")
	stolen.User = "bob"
	w.refuse(t, stolen)

	if err := w.RevokeTokens(ctx, "ann"); err != nil {
		t.Fatal(err)
	}
	w.refuse(t, cert("a1"))
	if err := w.RecordCertificate(ctx, record("a2")); err != nil {
		t.Fatal(err)
	}
	p := w.admit(t, cert("a2"))
	if err := w.RevokeCertificate(ctx, "A2"); err != nil || !w.ended(p) {
		t.Errorf("revoking: %v, ended %v", err, w.ended(p))
	}
	w.refuse(t, cert("a2"))

	if err := w.RevokeCertificate(ctx, "ff"); err != nil {
		t.Errorf("revoking an unknown one: %v", err)
	}
	w.refuse(t, cert("ff"))
	if err := w.RevokeCertificate(ctx, "xyz"); !errors.Is(err, parley.ErrInvalid) {
		t.Errorf("revoking no serial: %v", err)
	}

	// The oldest makes room, and is not accepted without its record.
	for i := range account.MaxCertificates - 1 {
		if err := w.RecordCertificate(ctx, record(fmt.Sprintf("b%02d", i))); err != nil {
			t.Fatal(err)
		}
	}
	w.refuse(t, cert("a1"))
	w.admit(t, cert("b00"))
	n := 0
	for c, err := range w.Certificates(ctx, "ann", "") {
		if err != nil || c.Serial == "a1" {
			t.Errorf("there is %+v, %v", c, err)
		}
		n++
	}
	if n != account.MaxCertificates {
		t.Errorf("there are %d, want %d", n, account.MaxCertificates)
	}
	w.pass(48 * time.Hour)
	if err := w.Sweep(ctx); err != nil {
		t.Fatal(err)
	}
	for c, err := range w.Certificates(ctx, "", "") {
		if c.Serial != "ff" {
			t.Errorf("after its end there is %+v, %v", c, err)
		}
	}
}

func TestSweepForgetsRevokedTokens(t *testing.T) {
	w := newWorld(t, nil)
	for _, until := range []time.Time{w.now().Add(time.Hour), {}} {
		if err := w.RevokeToken(t.Context(), "x"+until.String(), until); err != nil {
			t.Fatal(err)
		}
	}
	for _, left := range []int{2, 1} {
		if err := w.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		n := 0
		for range w.kv.Scan(t.Context(), "revoked/") {
			n++
		}
		if n != left {
			t.Errorf("%d are remembered, want %d", n, left)
		}
		w.pass(2 * time.Hour)
	}
}

// TestLink: one subject is one user, however often and on how many devices at
// once they sign in.
func TestLink(t *testing.T) {
	w := newWorld(t, nil)
	var mu sync.Mutex
	names, made := map[string]int{}, 0
	var signing sync.WaitGroup
	for range 16 {
		signing.Go(func() {
			name, created, err := w.Link(t.Context(), "https://accounts.google.com", "1234", account.Profile{Name: "Ann", Email: "a@example.org", Verified: true})
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			names[name]++
			if created {
				made++
			}
		})
	}
	signing.Wait()
	if len(names) != 1 || made != 1 {
		t.Fatalf("one subject is %v, made %d times", names, made)
	}
	for name := range names {
		u, err := w.User(t.Context(), name)
		if err != nil || u.Display != "Ann" || u.Email != "a@example.org" || strings.ToLower(name) != name || len(name) < 20 {
			t.Errorf("the user %s is %+v, %v", name, u, err)
		}
	}
	name, created, err := w.Link(t.Context(), "https://other.example", "1234", account.Profile{Email: "x@example.org"})
	if err != nil || !created || names[name] > 0 {
		t.Errorf("another issuer's subject is %s, %v, %v", name, created, err)
	}
	if u, err := w.User(t.Context(), name); err != nil || u.Email != "" {
		t.Errorf("an address that was not verified is kept: %+v, %v", u, err)
	}
}
