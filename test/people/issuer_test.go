package people_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"
)

// issuer is somebody else who says who users are, by tokens, and publishes the key
// that these are checked with.
type issuer struct {
	*httptest.Server

	t       *testing.T
	key     ed25519.PrivateKey
	fetches atomic.Int64
	// busy is called before the key is given away; nil is not at all.
	busy atomic.Pointer[func(context.Context)]
}

const issuerName = "https://id.example"

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	public, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	i := &issuer{t: t, key: key}
	i.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		i.fetches.Add(1)
		if busy := i.busy.Load(); busy != nil {
			(*busy)(r.Context())
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"keys": []map[string]string{
			{"kty": "OKP", "crv": "Ed25519", "kid": "1", "use": "sig", "x": base64.RawURLEncoding.EncodeToString(public)},
		}})
	}))
	t.Cleanup(i.Close)
	return i
}

// await has the key given away from now on only when something is so.
func (i *issuer) await(condition func() bool) {
	wait := func(ctx context.Context) { poll(ctx, condition) }
	i.busy.Store(&wait)
}

// args has a server believe the issuer, and everybody write to everybody.
func (i *issuer) args() []string {
	return []string{
		"--jwks", "alg=EdDSA,iss=" + issuerName + ",aud=parley,url=" + i.URL + "/keys",
		"--issuers-on-private-network", "--grant", "send:/$inbox/*", "--log", "warn",
	}
}

// token is one for a user.
func (i *issuer) token(user string) string {
	encode := func(v any) string {
		p, err := json.Marshal(v)
		if err != nil {
			i.t.Fatal(err)
		}
		return base64.RawURLEncoding.EncodeToString(p)
	}
	signed := encode(map[string]string{"alg": "EdDSA", "kid": "1"}) + "." + encode(map[string]any{
		"iss": issuerName, "aud": "parley", "sub": user, "exp": time.Now().Add(time.Hour).Unix(),
	})
	return signed + "." + base64.RawURLEncoding.EncodeToString(ed25519.Sign(i.key, []byte(signed)))
}
