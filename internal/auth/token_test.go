package auth_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/account"
	"github.com/parley-im/parley/internal/auth"
)

// TestTokens: each algorithm is accepted from its key.
func TestTokens(t *testing.T) {
	k := newKeys()
	a := newAuth(t, auth.Config{Keys: k.all()})
	for kid, with := range map[string]struct {
		algorithm string
		key       any
	}{
		"hs": {"HS256", k.secret}, "hs384": {"HS384", k.secret}, "hs512": {"HS512", k.secret},
		"rs": {"RS256", k.rsa}, "es": {"ES256", k.ecdsa}, "ed": {"EdDSA", k.ed},
	} {
		text := mint(t, head(with.algorithm, kid), says(map[string]any{"device": "Phone", "grants": []string{"publish:/a", "all:/{user}"}}), with.algorithm, with.key)
		for range 2 { // the second time from memory
			login, err := a.Verify(t.Context(), token(text))
			if err != nil {
				t.Errorf("%s: %v, %s", with.algorithm, err, refused(t, err))
				break
			}
			p := login.Principal
			if p.User != "ann" || p.Device != "Phone" || p.Credential != "jwt:t1" || p.Open || len(p.Grants) != 2 {
				t.Errorf("%s: the principal is %+v", with.algorithm, p)
			}
			if !p.Issued.Equal(start()) || !p.Expires.Equal(start().Add(time.Hour)) {
				t.Errorf("%s: it is issued at %v and expires at %v", with.algorithm, p.Issued, p.Expires)
			}
		}
	}
}

// TestTokenAttacks (S5): what tokens must not get away with, each with the reason
// that the audit log gets.
func TestTokenAttacks(t *testing.T) {
	k := newKeys()
	a := newAuth(t, auth.Config{Keys: k.all()})
	der, err := x509.MarshalPKIXPublicKey(k.rsa.Public())
	if err != nil {
		t.Fatal(err)
	}
	public := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	hs := func(header, claims string) string { return mint(t, header, claims, "HS256", k.secret) }
	claim := func(name string, value any) string { return hs(head("HS256", "hs"), says(map[string]any{name: value})) }
	raw := func(claims string) string { return hs(head("HS256", "hs"), claims) }
	good := claim("jti", "good")
	signed := good[:strings.LastIndexByte(good, '.')]
	es := encode([]byte(head("ES256", "es"))) + "." + encode([]byte(says(nil)))

	for name, tt := range map[string]struct{ token, reason string }{
		"alg none":                    {mint(t, head("none", "hs"), says(nil), "", nil) + "AA", "alg"},
		"alg none, no signature":      {mint(t, head("none", "hs"), says(nil), "", nil), "empty"},
		"alg None":                    {mint(t, head("None", ""), says(nil), "", nil) + "AA", "alg"},
		"alg NONE":                    {mint(t, head("NONE", ""), says(nil), "", nil) + "AA", "alg"},
		"alg empty":                   {hs(`{"alg":"","kid":"hs"}`, says(nil)), "no alg"},
		"alg missing":                 {hs(`{"kid":"hs"}`, says(nil)), "no alg"},
		"alg a number":                {hs(`{"alg":256,"kid":"hs"}`, says(nil)), "no text"},
		"alg in capitals":             {hs(`{"ALG":"HS256","kid":"hs"}`, says(nil)), "no alg"},
		"alg lower":                   {hs(head("hs256", "hs"), says(nil)), "alg"},
		"HS with the public key":      {mint(t, head("HS256", "rs"), says(nil), "HS256", public), "no key"},
		"HS with its DER":             {mint(t, head("HS256", "rs"), says(nil), "HS256", der), "no key"},
		"RS named HS":                 {mint(t, head("RS256", "hs"), says(nil), "RS256", k.rsa), "no key"},
		"HS512 for HS256":             {mint(t, head("HS512", "hs"), says(nil), "HS512", k.secret), "no key"},
		"another size of the secret":  {mint(t, head("HS384", "hs384"), says(nil), "HS256", k.secret), "no key"},
		"another key":                 {mint(t, head("ES256", "es"), says(nil), "ES256", other), "no key"},
		"r and s are 0":               {es + "." + encode(make([]byte, 64)), "no key"},
		"a short ES256":               {es + "." + encode(make([]byte, 63)), "no key"},
		"an empty secret":             {mint(t, head("HS256", "hs"), says(nil), "HS256", []byte{}), "no key"},
		"changed claims":              {encode([]byte(head("HS256", "hs"))) + "." + encode([]byte(says(map[string]any{"sub": "bob"}))) + good[strings.LastIndexByte(good, '.'):], "no key"},
		"no exp":                      {claim("exp", nil), "no exp"},
		"exp past":                    {claim("exp", start().Unix()-1), "expired"},
		"exp now":                     {claim("exp", start().Unix()), "expired"},
		"exp float":                   {claim("exp", 1e10+0.5), "exp"},
		"exp whole float":             {raw(strings.Replace(says(nil), `"exp":`, `"exp":1.0e0`, 1)), "exp"},
		"exp with an exponent":        {raw(`{"exp":1e10}`), "iss"},
		"exp negative":                {claim("exp", -5), "exp"},
		"exp zero":                    {claim("exp", 0), "exp"},
		"exp huge":                    {claim("exp", int64(1)<<62), "exp"},
		"exp beyond int64":            {raw(strings.Replace(says(nil), `"exp":`, `"exp":99999999999999999999`, 1)), "exp"},
		"exp text":                    {claim("exp", "9999999999"), "exp"},
		"exp null":                    {raw(strings.Replace(says(map[string]any{"exp": nil}), `{`, `{"exp":null,`, 1)), "exp"},
		"exp array":                   {claim("exp", []int{1 << 33}), "exp"},
		"nbf future":                  {claim("nbf", start().Unix()+60), "does not hold before"},
		"nbf text":                    {claim("nbf", "1"), "nbf"},
		"iat future":                  {claim("iat", start().Unix()+60), "future"},
		"iat float":                   {claim("iat", 1.5), "iat"},
		"no iss":                      {claim("iss", nil), "iss"},
		"wrong iss":                   {claim("iss", issuer+"/"), "iss"},
		"iss array":                   {claim("iss", []string{issuer}), "iss"},
		"no aud":                      {claim("aud", nil), "aud"},
		"wrong aud":                   {claim("aud", "Parley"), "aud"},
		"aud array without":           {claim("aud", []string{"a", "b"}), "aud"},
		"aud of numbers":              {claim("aud", []any{1, audience}), "aud"},
		"aud with null":               {claim("aud", []any{nil, audience}), "aud"},
		"aud of thousands":            {claim("aud", strings.Split(strings.Repeat("parley,", 500), ",")), "aud"},
		"aud an object":               {claim("aud", map[string]string{"parley": "parley"}), "aud"},
		"no sub":                      {claim("sub", nil), "no sub"},
		"sub empty":                   {claim("sub", ""), "no sub"},
		"sub number":                  {claim("sub", 1), "sub"},
		"sub with a slash":            {claim("sub", "../ann"), "sub"},
		"sub reserved":                {claim("sub", "$inbox"), "sub"},
		"sub long":                    {claim("sub", strings.Repeat("a", 200)), "sub"},
		"device wrong":                {claim("device", "a b"), "device"},
		"device a number":             {claim("device", 7), "device"},
		"a bad grant":                 {claim("grants", []string{"publish:/a", "fly:/b"}), "grant"},
		"grants an object":            {claim("grants", map[string]int{}), "grants"},
		"too many grants":             {claim("grants", strings.Repeat("publish:/a ", 129)), "grants"},
		"jti with a line break":       {claim("jti", "a\nb"), "jti"},
		"jti long":                    {claim("jti", strings.Repeat("a", 129)), "jti"},
		"crit":                        {hs(`{"alg":"HS256","kid":"hs","crit":["exp"],"exp":1}`, says(nil)), "crit"},
		"crit empty":                  {hs(`{"alg":"HS256","kid":"hs","crit":[]}`, says(nil)), "crit"},
		"jku":                         {hs(`{"alg":"HS256","kid":"hs","jku":"http://evil.example/k"}`, says(nil)), "jku"},
		"x5u":                         {hs(`{"alg":"HS256","kid":"hs","x5u":"http://evil.example/k"}`, says(nil)), "x5u"},
		"x5c":                         {hs(`{"alg":"HS256","kid":"hs","x5c":["AA"]}`, says(nil)), "x5c"},
		"jwk":                         {hs(`{"alg":"HS256","kid":"hs","jwk":{"kty":"oct","k":"AA"}}`, says(nil)), "jwk"},
		"zip":                         {hs(`{"alg":"HS256","kid":"hs","zip":"DEF"}`, says(nil)), "zip"},
		"b64":                         {hs(`{"alg":"HS256","kid":"hs","b64":false}`, says(nil)), "b64"},
		"a token in a token":          {hs(`{"alg":"HS256","kid":"hs","cty":"JWT"}`, says(nil)), "another token"},
		"another typ":                 {hs(`{"alg":"HS256","kid":"hs","typ":"dpop+jwt"}`, says(nil)), "typ"},
		"kid a path":                  {hs(head("HS256", "../../../../dev/null"), says(nil)), "no key"},
		"kid SQL":                     {hs(head("HS256", "x' UNION SELECT 'a"), says(nil)), "no key"},
		"kid a URL":                   {hs(head("HS256", "http://127.0.0.1/k"), says(nil)), "no key"},
		"kid a number":                {hs(`{"alg":"HS256","kid":1}`, says(nil)), "kid"},
		"kid long":                    {hs(head("HS256", strings.Repeat("k", 300)), says(nil)), "kid"},
		"kid of a megabyte":           {hs(head("HS256", strings.Repeat("k", 1<<20)), says(nil)), "bytes"},
		"no kid":                      {hs(head("HS256", ""), says(nil)), "no key"},
		"a huge header":               {hs(`{"alg":"HS256","kid":"hs","x":"`+strings.Repeat("x", 3000)+`"}`, says(nil)), "header"},
		"a huge payload":              {claim("x", strings.Repeat("x", 9000)), "bytes"},
		"10,000 dots":                 {strings.Repeat(".", 10_000), "bytes"},
		"1,000 dots":                  {strings.Repeat(".", 1000), "segments"},
		"dots at the end":             {good + "..", "segments"},
		"empty":                       {"", "segments"},
		"two segments":                {signed, "segments"},
		"two empty segments":          {"..", "empty"},
		"encrypted":                   {"a.b.c.d.e", "segments"},
		"JSON serialization":          {`{"payload":"","signatures":[]}`, "segments"},
		"with Bearer":                 {"Bearer " + good, "base64"},
		"base64 with padding":         {good + "=", "base64"},
		"base64 of the other kind":    {strings.Replace(good, "e", "+", 1), "base64"},
		"base64 with a line break":    {good[:10] + "\n" + good[10:], "line break"},
		"base64 that is not unique":   {notCanonical(good), "base64"},
		"a header twice":              {hs(`{"alg":"none","alg":"HS256","kid":"hs"}`, says(nil)), "strict"},
		"a claim twice":               {raw(strings.Replace(says(nil), `{`, `{"sub":"bob",`, 1)), "strict"},
		"a claim twice, escaped":      {raw(strings.Replace(says(nil), `{`, `{"\u0073ub":"bob",`, 1)), "strict"},
		"twice, deeper":               {raw(strings.Replace(says(nil), `{`, `{"x":{"y":1,"y":2},`, 1)), "strict"},
		"bad UTF-8":                   {raw(strings.Replace(says(nil), "Ann", "A\xff", 1)), "strict"},
		"half a surrogate":            {raw(strings.Replace(says(nil), "Ann", `A\ud800`, 1)), "strict"},
		"bad UTF-8 in the header":     {hs("{\"alg\":\"HS256\",\"kid\":\"hs\",\"x\":\"\xff\"}", says(nil)), "strict"},
		"something after the claims":  {raw(says(nil) + "{}"), "strict"},
		"something after the header":  {hs(head("HS256", "hs")+"x", says(nil)), "strict"},
		"a BOM":                       {raw("\ufeff" + says(nil)), "object"},
		"claims in an array":          {raw("[" + says(nil) + "]"), "object"},
		"claims null":                 {raw("null"), "object"},
		"a deep payload":              {raw(strings.Repeat(`{"a":`, 900) + "1" + strings.Repeat("}", 900)), ""},
		"claims before the signature": {mint(t, head("HS256", "hs"), "not even JSON", "HS256", []byte("wrong")), "no key"},
	} {
		t.Run(name, func(t *testing.T) {
			login, err := a.Verify(t.Context(), token(tt.token))
			if err == nil {
				t.Fatalf("it is accepted as %+v", login.Principal)
			}
			if reason := refused(t, err); !strings.Contains(reason, tt.reason) {
				t.Errorf("the reason is %q, want one with %q", reason, tt.reason)
			}
		})
	}
	if _, err := a.Verify(t.Context(), token(good)); err != nil {
		t.Errorf("the good one: %v", err)
	}
}

// notCanonical spells the last character of a signature so that the bits that
// nobody reads differ.
func notCanonical(text string) string {
	const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	last := strings.IndexByte(digits, text[len(text)-1])
	return text[:len(text)-1] + string(digits[last^1])
}

// TestTokenLeeway: clocks differ a little, but nothing outlives its end.
func TestTokenLeeway(t *testing.T) {
	k := newKeys()
	w := new(watch)
	a := newAuth(t, auth.Config{Keys: k.all(), Clock: w.clock()})
	soon := start().Add(auth.Leeway).Unix()
	text := mint(t, head("HS256", "hs"), says(map[string]any{"nbf": soon, "iat": soon, "exp": soon + 10}), "HS256", k.secret)
	if _, err := a.Verify(t.Context(), token(text)); err != nil {
		t.Errorf("from a clock that is ahead: %v", err)
	}
	w.advance(auth.Leeway + 10*time.Second - time.Millisecond)
	if _, err := a.Verify(t.Context(), token(text)); err != nil {
		t.Errorf("just before exp: %v", err)
	}
	w.advance(time.Millisecond)
	if _, err := a.Verify(t.Context(), token(text)); err == nil {
		t.Error("it is accepted, from memory, when it has expired")
	}
}

// TestLegacyTokens: those of Titan have no exp, no issuer, and any size of HMAC
// with one secret, however short.
func TestLegacyTokens(t *testing.T) {
	legacy := auth.Key{
		Name: "titan", Algorithms: []string{"HS256", "HS384", "HS512"}, Secret: []byte("pass"),
		Rules: auth.Rules{UserClaim: "userid", Legacy: true},
	}
	a := newAuth(t, auth.Config{Keys: []auth.Key{legacy}})
	for _, algorithm := range legacy.Algorithms {
		text := mint(t, head(algorithm, ""), `{"created":1456149264,"userid":"1"}`, algorithm, legacy.Secret)
		login, err := a.Verify(t.Context(), token(text))
		if err != nil {
			t.Fatalf("%s: %v", algorithm, err)
		}
		p := login.Principal
		if p.User != "1" || !p.Expires.IsZero() || p.Issued.Unix() != 1456149264 || !strings.HasPrefix(p.Credential, "jwt:sha256-") {
			t.Errorf("%s: the principal is %+v", algorithm, p)
		}
	}
	// A token that a client of that time keeps.
	const kept = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJ1c2VyaWQiOiIxIiwiY3JlYXRlZCI6MTQ1NjE0OTI2NH0.QrbHFvhDtT-no2xBhKq5PoihSF5zt7AreS9eA2y549o"
	if _, err := a.Verify(t.Context(), token(kept)); err != nil {
		t.Errorf("a kept one: %v", err)
	}
	for name, claims := range map[string]string{
		"expired": `{"userid":"1","exp":1456149264}`, "no user": `{"created":1}`, "empty user": `{"userid":""}`, "number": `{"userid":1}`,
		"from the future": `{"userid":"1","created":9999999999}`,
	} {
		if _, err := a.Verify(t.Context(), token(mint(t, head("HS256", ""), claims, "HS256", legacy.Secret))); err == nil {
			t.Errorf("%s: it is accepted", name)
		}
	}
}

// TestTwoIssuersOneKid: a kid names a key within its issuer only.
func TestTwoIssuersOneKid(t *testing.T) {
	k := newKeys()
	other := rules()
	other.Issuers = []string{"https://other.example"}
	second := []byte(strings.Repeat("another secret ", 3))
	a := newAuth(t, auth.Config{Keys: []auth.Key{
		{Name: "one", ID: "1", Algorithms: []string{"HS256"}, Secret: k.secret, Rules: rules()},
		{Name: "two", ID: "1", Algorithms: []string{"HS256"}, Secret: second, Rules: other},
	}})
	for name, tt := range map[string]struct {
		iss    string
		secret []byte
		ok     bool
	}{
		"one": {issuer, k.secret, true}, "two": {"https://other.example", second, true},
		"one's key, two's name": {"https://other.example", k.secret, false}, "two's key, one's name": {issuer, second, false},
	} {
		_, err := a.Verify(t.Context(), token(mint(t, head("HS256", "1"), says(map[string]any{"iss": tt.iss}), "HS256", tt.secret)))
		if (err == nil) != tt.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestDevices: what the credential names counts, and the client may not say
// otherwise.
func TestDevices(t *testing.T) {
	k := newKeys()
	a := newAuth(t, auth.Config{Keys: k.all()})
	bound := mint(t, head("HS256", "hs"), says(map[string]any{"device": "phone"}), "HS256", k.secret)
	free := mint(t, head("HS256", "hs"), says(nil), "HS256", k.secret)
	for name, tt := range map[string]struct{ token, said, want string }{
		"bound": {bound, "", "phone"}, "the same": {bound, "phone", "phone"}, "another": {bound, "tablet", "refused"},
		"free": {free, "", ""}, "said": {free, "tablet", "tablet"}, "said wrong": {free, "a/b", "refused"},
	} {
		c := token(tt.token)
		c.Device = tt.said
		login, err := a.Verify(t.Context(), c)
		got := "refused"
		if err == nil {
			got = login.Principal.Device
		}
		if got != tt.want {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
}

// TestRevokedTokens: the directory is asked each time, also for a token that is
// remembered.
func TestRevokedTokens(t *testing.T) {
	k := newKeys()
	d := newDirectory(t)
	a := newAuth(t, auth.Config{Keys: k.all(), Directory: d})
	text := mint(t, head("HS256", "hs"), says(nil), "HS256", k.secret)
	if _, err := a.Verify(t.Context(), token(text)); err != nil {
		t.Fatal(err)
	}
	if err := d.RevokeToken(t.Context(), "t1", start().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	_, err := a.Verify(t.Context(), token(text))
	refused(t, err)
	if e, ok := errors.AsType[*auth.Error](err); ok && e.User != "ann" {
		t.Errorf("the audit log is told of %q", e.User)
	}
}

// TestOtherCredentials: API keys, and no names.
func TestOtherCredentials(t *testing.T) {
	d := newDirectory(t)
	_, secret, err := d.CreateKey(t.Context(), account.Key{User: "backend"})
	if err != nil {
		t.Fatal(err)
	}
	a := newAuth(t, auth.Config{Directory: d})
	login, err := a.Verify(t.Context(), account.Credential{Kind: account.APIKey, Secret: secret, Device: "host1"})
	if err != nil || login.Principal.User != "backend" || login.Principal.Device != "host1" || login.Principal.Open {
		t.Errorf("a key: %+v, %v", login, err)
	}
	if login, err = a.Verify(t.Context(), account.Credential{Kind: account.APIKey, Secret: secret}); err != nil || login.Principal.Device != "" {
		t.Errorf("the key without a device: %+v, %v", login, err)
	}
	for name, c := range map[string]account.Credential{
		"a wrong key": {Kind: account.APIKey, Secret: "x"}, "a huge key": {Kind: account.APIKey, Secret: strings.Repeat("x", 1<<20)},
		"no certificates here": {Kind: account.Certificate, Certificate: []byte{1}}, "no kind": {Secret: "x"},
		"no providers": {Kind: account.IDToken, Secret: "a.b.c"}, "a name": {Kind: account.Claim, User: "ann"},
	} {
		if _, err := a.Verify(t.Context(), c); err == nil {
			t.Errorf("%s: accepted", name)
		} else {
			refused(t, err)
		}
	}
}

// TestBadKeys: a configuration that cannot be safe is refused.
func TestBadKeys(t *testing.T) {
	k := newKeys()
	small, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, key := range map[string]auth.Key{
		"no algorithm":          {Secret: k.secret, Rules: rules()},
		"none":                  {Algorithms: []string{"none"}, Secret: k.secret, Rules: rules()},
		"a short secret":        {Algorithms: []string{"HS256"}, Secret: []byte("short"), Rules: rules()},
		"short for HS512":       {Algorithms: []string{"HS256", "HS512"}, Secret: k.secret[:40], Rules: rules()},
		"an empty secret":       {Algorithms: []string{"HS256"}, Secret: []byte{}, Rules: auth.Rules{Legacy: true}},
		"HS with a public key":  {Algorithms: []string{"HS256"}, Public: k.rsa.Public(), Rules: rules()},
		"HS and RS":             {Algorithms: []string{"RS256", "HS256"}, Public: k.rsa.Public(), Rules: rules()},
		"RS with a secret":      {Algorithms: []string{"RS256"}, Secret: k.secret, Rules: rules()},
		"a PEM file for secret": {Algorithms: []string{"HS256"}, Secret: []byte("-----BEGIN PUBLIC KEY-----\n" + strings.Repeat("A", 100)), Rules: rules()},
		"both":                  {Algorithms: []string{"RS256"}, Public: k.rsa.Public(), Secret: k.secret, Rules: rules()},
		"another curve":         {Algorithms: []string{"ES256"}, Public: small.Public(), Rules: rules()},
		"a private key":         {Algorithms: []string{"RS256"}, Public: k.rsa, Rules: rules()},
		"no issuer":             {Algorithms: []string{"RS256"}, Public: k.rsa.Public(), Rules: auth.Rules{Audiences: []string{"a"}}},
		"no audience":           {Algorithms: []string{"RS256"}, Public: k.rsa.Public(), Rules: auth.Rules{Issuers: []string{"a"}}},
		"an empty audience":     {Algorithms: []string{"RS256"}, Public: k.rsa.Public(), Rules: auth.Rules{Issuers: []string{"a"}, Audiences: []string{""}}},
	} {
		if _, err := auth.New(auth.Config{Clock: new(watch).clock(), Keys: []auth.Key{key}}); !errors.Is(err, parley.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := auth.New(auth.Config{Keys: make([]auth.Key, auth.MaxIssuers+1)}); !errors.Is(err, parley.ErrInvalid) {
		t.Errorf("too many: %v", err)
	}
}

// TestIssue: a token of this server is accepted by it, and by no other.
func TestIssue(t *testing.T) {
	dir := t.TempDir()
	ed, err := auth.OpenSigner(dir, "")
	if err != nil {
		t.Fatal(err)
	}
	again, err := auth.OpenSigner(dir, "")
	if err != nil || !reflect.DeepEqual(ed, again) {
		t.Fatalf("the key is not kept: %v", err)
	}
	hs, err := auth.NewSigner(newKeys().secret, "chat")
	if err != nil {
		t.Fatal(err)
	}
	grant := account.Grant{Operations: account.Publish | account.History, Pattern: "/orders/*"}
	for name, signer := range map[string]*auth.Signer{"EdDSA": ed, "HS256": hs} {
		a := newAuth(t, auth.Config{Signer: signer})
		made, err := a.Issue("Ann", "Phone", time.Hour, []account.Grant{grant})
		if err != nil {
			t.Fatal(err)
		}
		login, err := a.Verify(t.Context(), token(made.Token))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		want := &account.Principal{
			Identity: parley.Identity{User: "ann", Device: "Phone"}, Grants: []account.Grant{grant},
			Issued: login.Principal.Issued, Expires: login.Principal.Expires, Credential: "jwt:" + made.ID, Rev: login.Principal.Rev,
		}
		if !reflect.DeepEqual(login.Principal, want) || !want.Expires.Equal(start().Add(time.Hour)) || len(made.ID) != 32 {
			t.Errorf("%s: the principal is %+v", name, login.Principal)
		}
		fresh, err := auth.GenerateSigner("")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := newAuth(t, auth.Config{Signer: fresh}).Verify(t.Context(), token(made.Token)); err == nil {
			t.Errorf("%s: another server accepts it", name)
		}
		for what, err := range map[string]error{
			"no user":  issue(a, "", "", time.Hour, nil),
			"device":   issue(a, "ann", "a b", time.Hour, nil),
			"no time":  issue(a, "ann", "", 0, nil),
			"too long": issue(a, "ann", "", 1<<62, nil),
			"grants":   issue(a, "ann", "", time.Hour, make([]account.Grant, 200)),
			"a grant":  issue(a, "ann", "", time.Hour, []account.Grant{{}}),
		} {
			if !errors.Is(err, parley.ErrInvalid) {
				t.Errorf("%s, %s: %v", name, what, err)
			}
		}
	}
	if err := issue(newAuth(t, auth.Config{}), "ann", "", time.Hour, nil); !errors.Is(err, parley.ErrUnavailable) {
		t.Errorf("without a key: %v", err)
	}
}

func issue(a *auth.Authenticator, user, device string, ttl time.Duration, grants []account.Grant) error {
	_, err := a.Issue(user, device, ttl, grants)
	return err
}
