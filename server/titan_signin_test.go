package server_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/parley-im/parley/internal/wire"
	"github.com/parley-im/parley/server"
	"github.com/parley-im/parley/server/servertest"
)

// issuer is a provider that people sign in with: its keys, and pictures, which the
// server must not fetch from this machine.
type issuer struct {
	*httptest.Server

	key *rsa.PrivateKey
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	encode := base64.RawURLEncoding.EncodeToString
	keys := fmt.Sprintf(`{"keys":[{"kty":"RSA","use":"sig","alg":"RS256","kid":"g","n":%q,"e":"AQAB"}]}`, encode(key.N.Bytes()))
	mux := http.NewServeMux()
	mux.HandleFunc("GET /keys", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(keys))
	})
	mux.HandleFunc("GET /ann.png", func(http.ResponseWriter, *http.Request) {
		t.Error("a picture is fetched from inside the network")
	})
	i := &issuer{httptest.NewServer(mux), key}
	t.Cleanup(i.Close)
	return i
}

// token is an ID token for a client of this server.
func (i *issuer) token(t *testing.T, sub string) string {
	t.Helper()
	encode := base64.RawURLEncoding.EncodeToString
	claims := fmt.Sprintf(`{"iss":%q,"aud":"app","sub":%q,"iat":%d,"exp":%d,"email":"ann@example.org","email_verified":true,"name":"Ann A.","picture":%q}`,
		i.URL, sub, time.Now().Unix(), time.Now().Add(time.Hour).Unix(), i.URL+"/ann.png")
	text := encode([]byte(`{"alg":"RS256","kid":"g"}`)) + "." + encode([]byte(claims))
	sum := sha256.Sum256([]byte(text))
	signature, err := rsa.SignPKCS1v15(rand.Reader, i.key, crypto.SHA256, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	return text + "." + encode(signature)
}

// trusted lets people sign in at i, which takes Google's place.
func (i *issuer) trusted(c *server.Config) {
	c.Auth.PrivateIssuers = true
	c.Auth.SignIns = []server.SignIn{{Name: "google", Issuer: i.URL, KeysURL: i.URL + "/keys", Audiences: []string{"app"}, Algorithms: []string{"RS256"}}}
}

// titanAt connects to where a server speaks Titan's protocol beside others.
func titanAt(t *testing.T, s *servertest.Server) *titanClient {
	t.Helper()
	conn, err := wire.Dial(t.Context(), strings.Replace(s.URL, "http", "ws", 1), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(wire.CloseNormal, "") })
	return &titanClient{Conn: conn, t: t}
}

// TestTitanSignIn: auth.google makes a user, whose connection goes on at once; the
// token of the answer is good for the next one. The same person is the same user,
// and a token that is not the provider's proves nobody.
func TestTitanSignIn(t *testing.T) {
	i := newIssuer(t)
	dir, ca := authority(t)
	s := servertest.Start(t, devastator(t, dir, ca), i.trusted)
	type profile struct{ Token, ID, Name, Email, Picture string }
	signIn := func(sub string) (*titanClient, profile) {
		t.Helper()
		c := titanAt(t, s)
		c.ask(`{"id":"g","method":"auth.google","params":{"token":"` + i.token(t, sub) + `"}}`)
		var answer struct{ Result profile }
		got := c.next()
		if err := json.Unmarshal([]byte(got), &answer); err != nil || answer.Result.Token == "" {
			t.Fatalf("signing in is answered %s", got)
		}
		return c, answer.Result
	}
	c, ann := signIn("110169484474386276334")
	if ann.ID == "" || ann.Name != "Ann A." || ann.Email != "ann@example.org" || ann.Picture != "" {
		t.Errorf("the profile is %+v", ann)
	}
	c.ask(`{"id":"s","method":"msg.send","params":[{"to":"` + strings.ToUpper(ann.ID) + `","message":"self"}]}`)
	c.want(`{"id":"s","result":"ACK"}`)
	c.answer(c.delivery("self"), "ACK")
	if _, again := signIn("110169484474386276334"); again.ID != ann.ID {
		t.Errorf("the same person is %s, and was %s", again.ID, ann.ID)
	}
	if _, other := signIn("2"); other.ID == ann.ID {
		t.Error("another person is the same user")
	}
	later := titanAt(t, s)
	later.ask(`{"id":"j","method":"auth.jwt","params":{"token":"` + ann.Token + `"}}`)
	later.want(`{"id":"j","result":"ACK"}`)
	later.silence() // for what was sent is acknowledged
	forged := i.token(t, "110169484474386276334")
	stranger := titanAt(t, s)
	stranger.ask(`{"id":"g","method":"auth.google","params":{"token":"` + newIssuer(t).token(t, "1") + `"}}`)
	stranger.want(`{"id":"g","error":{"code":666,"message":"Failed to authenticated with the given Google oauth access token."}}`)
	if _, err := stranger.Read(); !closedWith(err, wire.CloseNormal) {
		t.Errorf("the end is %v", err)
	}
	stranger = titanAt(t, s)
	stranger.ask(`{"id":"g","method":"auth.google","params":{"token":"` + forged[:len(forged)-6] + `AAAAAA"}}`)
	if got := stranger.next(); !strings.Contains(got, `"code":666`) {
		t.Errorf("a forged token is answered %s", got)
	}
}

// TestDevastatorSignIn: without a certificate auth.google answers one, with which
// the user comes back, or goes on at once.
func TestDevastatorSignIn(t *testing.T) {
	i := newIssuer(t)
	dir, ca := authority(t)
	s := servertest.Start(t, devastator(t, dir, ca), i.trusted)
	nobody := dialLength(t, s.Devastator, holding(t, ca, ""))
	got := say(t, nobody, true, `{"id":"g","method":"auth.google","params":{"accessToken":"`+i.token(t, "1")+`"}}`)
	var answer struct{ Result struct{ Cert, Key []byte } }
	if err := json.Unmarshal([]byte(got[0]), &answer); err != nil {
		t.Fatalf("signing in is answered %q: %v", got, err)
	}
	pair, err := tls.X509KeyPair(answer.Result.Cert, answer.Result.Key)
	if err != nil {
		t.Fatalf("signing in is answered %q: %v", got, err)
	}
	config := holding(t, ca, "")
	config.Certificates = []tls.Certificate{pair}
	back := dialLength(t, s.Devastator, config)
	user := pair.Leaf.Subject.CommonName
	if got := say(t, back, true, `{"id":"r","method":"msg.recv"}`); !slices.Equal(got, []string{`{"id":"r","result":"ACK"}`}) {
		t.Errorf("with the certificate it is answered %q", got)
	}
	if got := say(t, nobody, true, `{"id":"s","method":"msg.send","params":{"to":"`+user+`","message":"hi"}}`); !slices.Contains(got, `{"id":"s","result":"ACK"}`) {
		t.Errorf("without coming back it is answered %q", got)
	}
	want := regexp.MustCompile(`^\{"id":"[\w-]{22}","method":"msg.recv","params":\{"from":"` + regexp.QuoteMeta(user) + `","message":"hi"\}\}$`)
	if got := hear(t, back); !want.MatchString(got[0]) {
		t.Errorf("it is delivered as %q", got)
	}
}
