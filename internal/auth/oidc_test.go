package auth_test

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"errors"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/account"
	"github.com/parley-im/parley/internal/auth"
)

// google is Google with its keys where a test serves them.
func google(at string) auth.Provider {
	p := auth.Google([]string{"web.example", "android.example"})
	p.KeysURL = at
	return p
}

// idClaims are what Google says of Ann.
func idClaims(changes map[string]any) string {
	all := map[string]any{
		"iss": "https://accounts.google.com", "aud": "web.example", "azp": "android.example", "sub": "110169484474386276334", "device": nil, "jti": nil,
		"email": "ann@example.com", "email_verified": true, "name": "Ann Example",
	}
	maps.Copy(all, changes)
	return says(all)
}

func idToken(t testing.TB, claims string) account.Credential {
	t.Helper()
	return account.Credential{Kind: account.IDToken, Issuer: "google", Secret: mint(t, head("RS256", "g"), claims, "RS256", newKeys().rsa)}
}

// withGoogle signs people in with Google, and gives them tokens for so long.
func withGoogle(t *testing.T, d *account.Directory, w *watch, ttl time.Duration) *auth.Authenticator {
	t.Helper()
	p := newPublisher(t, jwk("g", newKeys().rsa.Public()))
	signer, err := auth.GenerateSigner("")
	if err != nil {
		t.Fatal(err)
	}
	return running(t, newAuth(t, auth.Config{
		Directory: d, Clock: w.clock(), Signer: signer, Providers: []auth.Provider{google(p.URL)}, Reach: auth.Reach{Private: true}, TokenTTL: ttl,
	}))
}

// TestGoogle: signing in links the subject to a user, tells the profile, and
// brings a token of this server.
func TestGoogle(t *testing.T) {
	d, w := newDirectory(t), new(watch)
	a := withGoogle(t, d, w, time.Hour)
	var user string
	for _, iss := range []string{"https://accounts.google.com", "accounts.google.com"} {
		c := idToken(t, idClaims(map[string]any{"iss": iss}))
		c.Device = "phone"
		login, err := a.Verify(t.Context(), c)
		if err != nil {
			t.Fatalf("%s: %v, %s", iss, err, refused(t, err))
		}
		if user == "" {
			user = login.Principal.User
		}
		if p := login.Principal; p.User != user || p.Device != "phone" || !p.Expires.Equal(start().Add(time.Hour)) {
			t.Errorf("%s: the principal is %+v", iss, p)
		}
		if p := login.Profile; p.Email != "ann@example.com" || !p.Verified || p.Name != "Ann Example" || p.Picture != nil {
			t.Errorf("%s: the profile is %+v", iss, p)
		}
		again, err := a.Verify(t.Context(), token(login.Token))
		if err != nil || again.Principal.Identity != login.Principal.Identity || again.Principal.Credential != login.Principal.Credential {
			t.Errorf("%s: with the new token %+v, %v", iss, again, err)
		}
	}
	if u, err := d.User(t.Context(), user); err != nil || u.Email != "ann@example.com" || u.Display != "Ann Example" || len(u.Devices) != 1 {
		t.Errorf("the user is %+v, %v", u, err)
	}
	for name, tt := range map[string]struct {
		changes map[string]any
		reason  string
	}{
		"another audience":      {map[string]any{"aud": "evil.example"}, "aud"},
		"an azp not ours":       {map[string]any{"aud": []string{"web.example", "x"}, "azp": "x"}, "azp"},
		"no azp, two audiences": {map[string]any{"aud": []string{"web.example", "x"}, "azp": nil}, "azp"},
		"another issuer":        {map[string]any{"iss": "https://accounts.google.com.evil.example"}, "iss"},
		"no exp":                {map[string]any{"exp": nil}, "exp"},
		"no iat":                {map[string]any{"iat": nil}, "iat"},
		"no sub":                {map[string]any{"sub": nil}, "sub"},
		"a long sub":            {map[string]any{"sub": strings.Repeat("1", 256)}, "sub"},
		"a number for sub":      {map[string]any{"sub": 5}, "sub"},
	} {
		_, err := a.Verify(t.Context(), idToken(t, idClaims(tt.changes)))
		if err == nil {
			t.Errorf("%s: accepted", name)
		} else if reason := refused(t, err); !strings.Contains(reason, tt.reason) {
			t.Errorf("%s: the reason is %q", name, reason)
		}
	}
	for name, changes := range map[string]map[string]any{
		"not verified": {"email_verified": false}, "nothing said": {"email_verified": nil}, "a text": {"email_verified": "false"},
	} {
		login, err := a.Verify(t.Context(), idToken(t, idClaims(changes)))
		if err != nil || login.Profile.Email != "" || login.Profile.Verified {
			t.Errorf("%s: %+v, %v", name, login, err)
		}
	}
	// An ID token is no token, and the other way round.
	_, err := a.Verify(t.Context(), token(idToken(t, idClaims(nil)).Secret))
	refused(t, err)
	made, err := a.Issue("ann", "", time.Hour, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = a.Verify(t.Context(), account.Credential{Kind: account.IDToken, Secret: made.Token})
	refused(t, err)
	c := idToken(t, idClaims(nil))
	c.Issuer = "other"
	_, err = a.Verify(t.Context(), c)
	refused(t, err)
	suspend(t, d, user)
	login, err := a.Verify(t.Context(), idToken(t, idClaims(nil)))
	if refused(t, err); login != nil {
		t.Errorf("a suspended user gets %+v", login)
	}
}

// TestSignInAfterRevocation (S4): an ID token from before a user's credentials were
// revoked brings no new one; one from afterwards does.
func TestSignInAfterRevocation(t *testing.T) {
	d, w := newDirectory(t), new(watch)
	a := withGoogle(t, d, w, 0)
	old := idToken(t, idClaims(map[string]any{"iat": start().Add(-time.Minute).Unix()}))
	login, err := a.Verify(t.Context(), old)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.RevokeTokens(t.Context(), login.Principal.User); err != nil {
		t.Fatal(err)
	}
	got, err := a.Verify(t.Context(), old)
	if refused(t, err); got != nil {
		t.Errorf("the old ID token proves %+v", got.Principal)
	}
	w.advance(time.Minute)
	again, err := a.Verify(t.Context(), idToken(t, idClaims(map[string]any{"iat": start().Add(time.Minute).Unix()})))
	if err != nil || again.Principal.User != login.Principal.User || again.Token == "" {
		t.Errorf("a new ID token brings %+v, %v", again, err)
	}
}

// TestDiscovery: any issuer is found by its document, which must be its own.
func TestDiscovery(t *testing.T) {
	k := newKeys()
	p := newPublisher(t)
	document := map[string]string{"issuer": p.URL, "jwks_uri": p.URL + "/keys"}
	p.serve(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/.well-known/openid-configuration":
			_ = json.NewEncoder(w).Encode(document)
		case "/keys":
			_ = json.NewEncoder(w).Encode(map[string]any{"keys": []any{jwk("g", k.rsa.Public())}})
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	})
	verify := func() error {
		provider := auth.Provider{Name: "id", Issuer: p.URL, Audiences: []string{"web.example"}}
		a := running(t, newAuth(t, auth.Config{Providers: []auth.Provider{provider}, Reach: auth.Reach{Private: true}}))
		c := idToken(t, idClaims(map[string]any{"iss": p.URL}))
		c.Issuer = ""
		_, err := a.Verify(t.Context(), c)
		return err
	}
	if err := verify(); err != nil {
		t.Fatal(err)
	}
	document["issuer"] = "https://accounts.google.com"
	if err := verify(); !errors.Is(err, parley.ErrUnavailable) {
		t.Errorf("with another's document: %v", err)
	}
	document["issuer"], document["jwks_uri"] = p.URL, "http://169.254.169.254/latest"
	if err := verify(); !errors.Is(err, parley.ErrUnavailable) {
		t.Errorf("with keys elsewhere: %v", err)
	}
	for name, bad := range map[string]auth.Provider{
		"no name":     {Issuer: "https://id.example", Audiences: []string{"a"}},
		"no issuer":   {Name: "id", Audiences: []string{"a"}},
		"no audience": {Name: "id", Issuer: "https://id.example"},
		"plain http":  {Name: "id", Issuer: "http://id.example", Audiences: []string{"a"}},
		"HMAC":        {Name: "id", Issuer: "https://id.example", Audiences: []string{"a"}, Algorithms: []string{"HS256"}},
	} {
		if _, err := auth.New(auth.Config{Clock: new(watch).clock(), Providers: []auth.Provider{bad}}); !errors.Is(err, parley.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestPictures: they are fetched bounded, and never from inside, even where the
// provider itself may be inside.
func TestPictures(t *testing.T) {
	image := bytes.Repeat([]byte{0xff, 0xd8}, 1000)
	kind := "image/jpeg"
	p := newPublisher(t)
	p.serve(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", kind)
		_, _ = w.Write(image)
	})
	for name, tt := range map[string]struct {
		kind string
		size int
		want bool
	}{
		"a picture": {"image/jpeg", 1000, true}, "a PNG": {"image/PNG; x=y", 1000, true}, "a page": {"text/html", 1000, false},
		"a document with scripts": {"image/svg+xml", 1000, false}, "no type": {"", 1000, false}, "as large as may be": {"image/jpeg", 256 << 10, true},
		"too large": {"image/jpeg", 256<<10 + 1, false},
	} {
		kind, image = tt.kind, bytes.Repeat([]byte{1}, tt.size)
		got := auth.FetchPicture(t.Context(), p.URL+"/me.jpg")
		if tt.want && !bytes.Equal(got, image) || !tt.want && got != nil {
			t.Errorf("%s: %d bytes", name, len(got))
		}
	}

	keys := newPublisher(t, jwk("g", newKeys().rsa.Public()))
	a := running(t, newAuth(t, auth.Config{Providers: []auth.Provider{google(keys.URL)}, Reach: auth.Reach{Private: true}}))
	before := p.fetches.Load()
	for _, at := range []string{p.URL, strings.Replace(p.URL, "http:", "https:", 1), "http://169.254.169.254/", "data:image/png;base64,AA", "file:///etc/passwd", "nonsense", strings.Repeat("x", 5000)} {
		login, err := a.Verify(t.Context(), idToken(t, idClaims(map[string]any{"picture": at})))
		if err != nil || login.Profile.Picture != nil {
			t.Errorf("%.40s: %v", at, err)
		}
	}
	if p.fetches.Load() != before {
		t.Error("a picture was asked for inside")
	}
}

// TestCertificateAtSignIn: an old client gets a client certificate, only when it
// asks, and signs in with that.
func TestCertificateAtSignIn(t *testing.T) {
	p := newPublisher(t, jwk("g", newKeys().rsa.Public()))
	d := newDirectory(t)
	a := running(t, newAuth(t, auth.Config{
		Directory: d, Providers: []auth.Provider{google(p.URL)}, Reach: auth.Reach{Private: true}, CA: newCA(t, false), CertificateTTL: time.Hour,
	}))
	c := idToken(t, idClaims(nil))
	login, err := a.Verify(t.Context(), c)
	if err != nil || login.Certificate != nil || login.Key != nil || login.Token != "" {
		t.Fatalf("without asking: %+v, %v", login, err)
	}
	c.WantCertificate = true
	if login, err = a.Verify(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(login.Certificate, login.Key)
	if err != nil {
		t.Fatal(err)
	}
	if block, _ := pem.Decode(login.Key); block.Type != "RSA PRIVATE KEY" {
		t.Errorf("the key is a %s", block.Type)
	}
	user := login.Principal.User
	recorded := certificates(t, d)
	if len(recorded) != 1 || recorded[0].User != user || recorded[0].Serial == "" {
		t.Fatalf("recorded is %+v", recorded)
	}
	with, err := a.Verify(t.Context(), account.Credential{Kind: account.Certificate, Certificate: pair.Certificate[0]})
	if err != nil {
		t.Fatal(err)
	}
	if p, r := with.Principal, recorded[0]; p.User != user || p.Device != r.Serial || p.Credential != "cert:"+r.Serial || !p.Expires.Equal(r.Expires) {
		t.Errorf("the principal is %+v, of %+v", p, r)
	}
	if err := d.RevokeCertificate(t.Context(), recorded[0].Serial); err != nil {
		t.Fatal(err)
	}
	_, err = a.Verify(t.Context(), account.Credential{Kind: account.Certificate, Certificate: pair.Certificate[0]})
	refused(t, err)

	leaf := pair.Leaf
	if leaf.NotAfter.Sub(leaf.NotBefore) != time.Hour {
		t.Errorf("it holds for %v", leaf.NotAfter.Sub(leaf.NotBefore))
	}
	without := running(t, newAuth(t, auth.Config{Directory: d, Providers: []auth.Provider{google(p.URL)}, Reach: auth.Reach{Private: true}}))
	_, err = without.Verify(t.Context(), c)
	refused(t, err)
}
