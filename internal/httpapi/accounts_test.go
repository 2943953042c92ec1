package httpapi_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/parley-im/parley/internal/account"
	"github.com/parley-im/parley/internal/backend/pebble"
	"github.com/parley-im/parley/internal/broker"
	"github.com/parley-im/parley/internal/httpapi"
)

// newAccounts is a directory over a store in memory, and issuers of nothing that
// anybody would accept.
func newAccounts(t *testing.T) httpapi.Accounts {
	t.Helper()
	db, err := pebble.Open("store", pebble.Options{Memory: true, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	d, err := account.Open(t.Context(), account.Config{KV: db, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return httpapi.Accounts{
		Directory: d,
		IssueToken: func(_ context.Context, r httpapi.TokenRequest) (httpapi.Token, error) {
			now := time.Now()
			return httpapi.Token{User: r.User, Device: r.Device, ID: "1", Issued: now.Truncate(time.Second), Expires: now.Add(r.TTL), Token: "x"}, nil
		},
		IssueCertificate: func(ctx context.Context, r httpapi.CertificateRequest) (httpapi.IssuedCertificate, error) {
			made := account.CertificateRecord{Serial: "1f", User: r.User, Issued: time.Now(), Expires: time.Now().Add(r.TTL)}
			return httpapi.IssuedCertificate{Certificate: httpapi.CertificateOf(made), PEM: "x", Key: "y"}, d.RecordCertificate(ctx, made)
		},
	}
}

// operator is an API over accounts, as operators have it.
type operator struct {
	http.Handler
	accounts httpapi.Accounts
	log      strings.Builder
}

func newOperator(t *testing.T) *operator {
	t.Helper()
	o := &operator{accounts: newAccounts(t)}
	mux := http.NewServeMux()
	api := httpapi.New(httpapi.Config{
		Log: broken{}, Broker: broker.New(broker.Config{Log: broken{}}), Logger: slog.New(slog.NewTextHandler(&o.log, nil)),
		Admit: func(*http.Request) error { return nil }, Arriving: broker.NewRoom(1 << 20), AnswerBytes: 1 << 20, Accounts: o.accounts, Separate: true,
	})
	api.RegisterOperator(mux, func(h http.Handler) http.Handler { return h })
	o.Handler = httpapi.Strict(mux)
	return o
}

// do makes one request; the body is JSON unless it is empty.
func (o *operator) do(method, path, body string, edit ...func(http.Header)) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for _, f := range edit {
		f(r.Header)
	}
	w := httptest.NewRecorder()
	o.ServeHTTP(w, r)
	return w
}

// TestAccountsBadInput: each gets its status and code, and changes nothing.
func TestAccountsBadInput(t *testing.T) {
	o := newOperator(t)
	if w := o.do("POST", "/v1/users", `{"user":"ann"}`); w.Code != 201 {
		t.Fatal(w.Body)
	}
	grants := `"` + strings.Repeat(`publish:/a","`, account.MaxGrants) + `publish:/b"`
	long := strings.Repeat("x", 300)
	for _, tt := range []struct {
		method, path, body string
		status             int
		code               string
	}{
		{"POST", "/v1/users", ``, 415, "unsupported_media_type"},
		{"POST", "/v1/users", `x`, 400, "invalid"},
		{"POST", "/v1/users", `{}`, 400, "invalid"},
		{"POST", "/v1/users", `[]`, 400, "invalid"},
		{"POST", "/v1/users", `{"user":"bob"} x`, 400, "invalid"},
		{"POST", "/v1/users", `{"user":"bob","user":"eve"}`, 400, "invalid"},
		{"POST", "/v1/users", `{"User":"bob"}`, 400, "invalid"},
		{"POST", "/v1/users", `{"user":"bob","admin":true}`, 400, "invalid"},
		{"POST", "/v1/users", `{"user":7}`, 400, "invalid"},
		{"POST", "/v1/users", `{"user":""}`, 400, "invalid"},
		{"POST", "/v1/users", `{"user":"a/b"}`, 400, "invalid"},
		{"POST", "/v1/users", `{"user":"$bob"}`, 400, "invalid"},
		{"POST", "/v1/users", `{"user":"` + long + `"}`, 400, "invalid"},
		{"POST", "/v1/users", `{"user":"bob","display":"` + long + `"}`, 400, "invalid"},
		{"POST", "/v1/users", `{"user":"bob","email":"a\u0000b"}`, 400, "invalid"},
		{"POST", "/v1/users", `{"user":"bob","grants":"publish:/a"}`, 400, "invalid"},
		{"POST", "/v1/users", `{"user":"bob","grants":["fly:/a"]}`, 400, "invalid"},
		{"POST", "/v1/users", `{"user":"bob","grants":["publish:a"]}`, 400, "invalid"},
		{"POST", "/v1/users", `{"user":"bob","grants":[` + grants + `]}`, 400, "invalid"},
		{"POST", "/v1/users", `{"user":"bob","display":"` + strings.Repeat("x", 200<<10) + `"}`, 413, "too_large"},
		{"POST", "/v1/users", "{\"user\":\"b\xff\"}", 400, "invalid"},
		{"POST", "/v1/users", `{"user":"Ann"}`, 409, "conflict"},
		{"GET", "/v1/users?limit=0", ``, 400, "invalid"},
		{"GET", "/v1/users?limit=1001", ``, 400, "invalid"},
		{"GET", "/v1/users?page=2", ``, 400, "invalid"},
		{"GET", "/v1/users/bob", ``, 404, "not_found"},
		{"GET", "/v1/users/%24x", ``, 400, "invalid"},
		{"GET", "/v1/users/a%2Fb", ``, 400, "invalid"},
		{"PATCH", "/v1/users/ann", `{}`, 400, "invalid"},
		{"PATCH", "/v1/users/ann", `{"user":"bob"}`, 400, "invalid"},
		{"PATCH", "/v1/users/ann", `{"suspended":"yes"}`, 400, "invalid"},
		{"PATCH", "/v1/users/ann", `{"grants":["send"]}`, 400, "invalid"},
		{"PATCH", "/v1/users/bob", `{"suspended":true}`, 404, "not_found"},
		{"PUT", "/v1/users/ann", `{}`, 405, "method_not_allowed"},
		{"DELETE", "/v1/users/bob", ``, 404, "not_found"},
		{"DELETE", "/v1/users/ann?force=1", ``, 400, "invalid"},
		{"GET", "/v1/users/bob/devices", ``, 404, "not_found"},
		{"DELETE", "/v1/users/ann/devices/phone", ``, 404, "not_found"},
		{"DELETE", "/v1/users/ann/devices/a%2Fb", ``, 400, "invalid"},
		{"GET", "/v1/users/bob/export", ``, 404, "not_found"},
		{"GET", "/v1/users/ann/export?x=1", ``, 400, "invalid"},
		{"POST", "/v1/users/ann/tokens", `{"ttl":"soon"}`, 400, "invalid"},
		{"POST", "/v1/users/ann/tokens", `{"ttl":"0s"}`, 400, "invalid"},
		{"POST", "/v1/users/ann/tokens", `{"device":"a/b"}`, 400, "invalid"},
		{"POST", "/v1/users/ann/tokens", `{"grants":["x"]}`, 400, "invalid"},
		{"DELETE", "/v1/tokens/x?until=tomorrow", ``, 400, "invalid"},
		{"DELETE", "/v1/tokens/" + strings.Repeat("x", 2000), ``, 400, "invalid"},
		{"POST", "/v1/keys", `{}`, 400, "invalid"},
		{"POST", "/v1/keys", `{"user":"ann","expires":"2001-01-01T00:00:00Z"}`, 400, "invalid"},
		{"POST", "/v1/keys", `{"user":"ann","expires":"2999-01-01T00:00:00Z","ttl":"1d"}`, 400, "invalid"},
		{"POST", "/v1/keys", `{"user":"ann","note":"` + long + `"}`, 400, "invalid"},
		{"POST", "/v1/keys", `{"user":"ann","secret":"mine"}`, 400, "invalid"},
		{"GET", "/v1/keys?user=a%2Fb", ``, 400, "invalid"},
		{"DELETE", "/v1/keys/0123456789abcdef", ``, 404, "not_found"},
		{"DELETE", "/v1/keys/x", ``, 400, "invalid"},
		{"POST", "/v1/certificates", `{"ttl":"1d"}`, 400, "invalid"},
		{"DELETE", "/v1/certificates/xyz", ``, 400, "invalid"},
	} {
		w := o.do(tt.method, tt.path, tt.body)
		if w.Code != tt.status || !strings.Contains(w.Body.String(), `"code":"`+tt.code+`"`) {
			t.Errorf("%s %.60s %.60s is answered by %d %.200s, want %d %s", tt.method, tt.path, tt.body, w.Code, w.Body, tt.status, tt.code)
		}
	}
	if w := o.do("GET", "/v1/users", ""); !strings.HasPrefix(w.Body.String(), `{"users":[{"user":"ann","created":`) || strings.Count(w.Body.String(), `"user"`) != 1 {
		t.Errorf("afterwards the users are %s", w.Body)
	}
	if w := o.do("GET", "/v1/keys", ""); w.Body.String() != "{\"keys\":[],\"more\":false}\n" {
		t.Errorf("afterwards the keys are %s", w.Body)
	}
}

// TestUserTag: of two who change a user at once, one is told; that a device was
// seen disturbs neither.
func TestUserTag(t *testing.T) {
	o := newOperator(t)
	tag := o.do("POST", "/v1/users", `{"user":"ann","display":"Ann"}`).Header().Get("ETag")
	if tag == "" || tag != o.do("GET", "/v1/users/ann", "").Header().Get("ETag") {
		t.Fatalf("the tag is %q", tag)
	}
	p := &account.Principal{Issued: time.Now()}
	p.User, p.Device = "ann", "phone"
	if _, err := o.accounts.Directory.Admit(t.Context(), p, account.Credential{Kind: account.Token}); err != nil {
		t.Fatal(err)
	}
	match := func(h http.Header) { h.Set("If-Match", tag) }
	if w := o.do("PATCH", "/v1/users/ann", `{"suspended":true}`, match); w.Code != 200 || w.Header().Get("ETag") == tag {
		t.Errorf("the first is answered by %d %s", w.Code, w.Body)
	}
	if w := o.do("PATCH", "/v1/users/ann", `{"display":"Eve"}`, match); w.Code != 412 || !strings.Contains(w.Body.String(), `"code":"precondition_failed"`) {
		t.Errorf("the second is answered by %d %s", w.Code, w.Body)
	}
	if w := o.do("PATCH", "/v1/users/ann", `{"suspended":false}`); w.Code != 200 || !strings.Contains(w.Body.String(), `"display":"Ann"`) {
		t.Errorf("without a tag: %d %s", w.Code, w.Body)
	}
}

// TestSecretsAreShownOnce: neither a list nor the log has them.
func TestSecretsAreShownOnce(t *testing.T) {
	o := newOperator(t)
	w := o.do("POST", "/v1/keys", `{"user":"billing","note":"n","grants":["publish:/orders"],"ttl":"90d"}`)
	var made struct{ Key, Secret string }
	if err := json.Unmarshal(w.Body.Bytes(), &made); err != nil || w.Code != 201 || !strings.HasPrefix(made.Secret, account.KeyPrefix+made.Key) {
		t.Fatalf("made %d %s: %v", w.Code, w.Body, err)
	}
	if _, err := o.accounts.Directory.VerifyKey(t.Context(), made.Secret); err != nil {
		t.Errorf("it proves nobody: %v", err)
	}
	hidden := made.Secret[len(account.KeyPrefix)+len(made.Key):]
	for _, path := range []string{"/v1/keys", "/v1/keys?user=billing", "/v1/users/billing/export"} {
		if w := o.do("GET", path, ""); w.Code != 200 || !strings.Contains(w.Body.String(), made.Key) || strings.Contains(w.Body.String(), hidden) {
			t.Errorf("%s is answered by %d %s", path, w.Code, w.Body)
		}
	}
	if w := o.do("DELETE", "/v1/keys/"+made.Key, ""); w.Code != 200 {
		t.Errorf("revoking is answered by %d %s", w.Code, w.Body)
	}
	if strings.Contains(o.log.String(), hidden) || !strings.Contains(o.log.String(), made.Key) {
		t.Errorf("the log is %s", &o.log)
	}
	if _, err := o.accounts.Directory.VerifyKey(t.Context(), made.Secret); err == nil {
		t.Error("a revoked key proves somebody")
	}
}

// TestPages: every list can be read page by page.
func TestPages(t *testing.T) {
	o := newOperator(t)
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		if w := o.do("POST", "/v1/users", `{"user":"`+name+`"}`); w.Code != 201 {
			t.Fatal(w.Body)
		}
		if w := o.do("POST", "/v1/keys", `{"user":"`+name+`"}`); w.Code != 201 {
			t.Fatal(w.Body)
		}
		if w := o.do("DELETE", "/v1/certificates/"+name, ""); w.Code != 200 {
			t.Fatal(w.Body)
		}
	}
	for list, id := range map[string]string{"users": "user", "keys": "key", "certificates": "serial"} {
		var seen []string
		for after, more := "", true; more; {
			w := o.do("GET", "/v1/"+list+"?limit=2&after="+after, "")
			var page map[string]json.RawMessage
			var items []map[string]any
			err := json.Unmarshal(w.Body.Bytes(), &page)
			err = errors.Join(err, json.Unmarshal(page["more"], &more), json.Unmarshal(page[list], &items))
			if err != nil || len(items) == 0 || len(items) > 2 {
				t.Fatalf("%s: %v", w.Body, err)
			}
			for _, item := range items {
				seen = append(seen, item[id].(string))
			}
			after = seen[len(seen)-1]
		}
		if len(seen) != 5 {
			t.Errorf("%s are %q", list, seen)
		}
	}
}

// TestTokenAfterRevocation: a token that is issued right after all were revoked
// is not one of them.
func TestTokenAfterRevocation(t *testing.T) {
	o := newOperator(t)
	if w := o.do("DELETE", "/v1/users/ann/tokens", ""); w.Code != 200 || !strings.Contains(w.Body.String(), `"not_before"`) {
		t.Fatalf("revoking is answered by %d %s", w.Code, w.Body)
	}
	w := o.do("POST", "/v1/users/ann/tokens", `{"ttl":"1h","device":"phone"}`)
	var made httpapi.Token
	if err := json.Unmarshal(w.Body.Bytes(), &made); err != nil || w.Code != 201 {
		t.Fatalf("issuing is answered by %d %s", w.Code, w.Body)
	}
	u, err := o.accounts.Directory.User(t.Context(), "ann")
	if err != nil || made.Issued.Before(u.NotBefore) {
		t.Errorf("it was issued %v, and what was before %v is refused; %v", made.Issued, u.NotBefore, err)
	}
}
