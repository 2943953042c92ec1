package server_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/account"
	"github.com/parley-im/parley/server"
)

// TestTakenCredential (S14): whatever form a credential comes in, nobody behind
// the door sees it, and nothing else of the request is changed.
func TestTakenCredential(t *testing.T) {
	t.Parallel()
	const secret = "S3cr3t.Hunter2"
	basic := func(user, password string) func(*http.Request) {
		return func(r *http.Request) { r.SetBasicAuth(user, password) }
	}
	header := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Add(name, value) }
	}
	both := func(edits ...func(*http.Request)) func(*http.Request) {
		return func(r *http.Request) {
			for _, edit := range edits {
				edit(r)
			}
		}
	}
	nothing := func(*http.Request) {}
	for name, tt := range map[string]struct {
		target string
		edit   func(*http.Request)
		kind   account.CredentialKind
		secret string
		user   string
		err    error
		seen   string // the target
	}{
		"none":             {"/v1/rpc?a=b", nothing, 0, "", "", nil, "/v1/rpc?a=b"},
		"other parameters": {"/stream/user/ann?accessory=1&x=%41", nothing, 0, "", "", nil, "/stream/user/ann?accessory=1&x=%41"},
		"bearer":           {"/v1/rpc", header("Authorization", "Bearer "+secret), account.Token, secret, "", nil, "/v1/rpc"},
		"any case":         {"/v1/rpc", header("Authorization", "bEARER  "+secret), account.Token, secret, "", nil, "/v1/rpc"},
		"api key":          {"/v1/rpc", header("Authorization", "Bearer parley_"+secret), account.APIKey, "parley_" + secret, "", nil, "/v1/rpc"},
		"basic":            {"/v1/rpc", basic("ann", "parley_"+secret), account.APIKey, "parley_" + secret, "ann", nil, "/v1/rpc"},
		"basic of a page":  {"/v1/rpc", both(basic("ann", "parley_"+secret), header("Origin", "https://evil.example")), 0, "", "", parley.ErrForbidden, "/v1/rpc"},
		"basic of a site":  {"/v1/rpc", both(basic("ann", "parley_"+secret), header("Sec-Fetch-Site", "cross-site")), 0, "", "", parley.ErrForbidden, "/v1/rpc"},
		"not base64":       {"/v1/rpc", header("Authorization", "Basic "+secret), 0, "", "", parley.ErrInvalid, "/v1/rpc"},
		"digest":           {"/v1/rpc", header("Authorization", "Digest "+secret), 0, "", "", parley.ErrInvalid, "/v1/rpc"},
		"empty":            {"/v1/rpc", header("Authorization", ""), 0, "", "", parley.ErrInvalid, "/v1/rpc"},
		"twice":            {"/v1/rpc", both(header("Authorization", "Bearer "+secret), header("Authorization", "Bearer "+secret)), 0, "", "", parley.ErrInvalid, "/v1/rpc"},
		"query":            {"/v1/rpc?access_token=" + secret, nothing, account.Token, secret, "", nil, "/v1/rpc"},
		"query, behind":    {"/stream/user/ann?x=1&access_token=" + secret, nothing, account.Token, secret, "", nil, "/stream/user/ann?x=1"},
		"query, between":   {"/a?x=%20&access_token=" + secret + "&y", nothing, account.Token, secret, "", nil, "/a?x=%20&y"},
		"query, disguised": {"/a?%61ccess%5Ftoken=" + secret, nothing, account.Token, secret, "", nil, "/a"},
		"query, escaped":   {"/a?access_token=" + url.QueryEscape("a+b c"), nothing, account.Token, "a+b c", "", nil, "/a"},
		"query, malformed": {"/a?access_token=" + secret + "%zz", nothing, 0, "", "", parley.ErrInvalid, "/a"},
		"query, empty":     {"/a?access_token=", nothing, 0, "", "", parley.ErrInvalid, "/a"},
		"query twice":      {"/a?access_token=" + secret + "&access_token=" + secret, nothing, account.Token, secret, "", parley.ErrInvalid, "/a"},
		"header and query": {"/a?access_token=" + secret, header("Authorization", "Bearer "+secret), account.Token, secret, "", parley.ErrInvalid, "/a"},
		"too long":         {"/a", header("Authorization", "Bearer "+strings.Repeat(secret, 1000)), 0, "", "", parley.ErrInvalid, "/a"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := httptest.NewRequest(http.MethodGet, tt.target, http.NoBody)
			tt.edit(r)
			kind, got, user, seen, err := server.TakenCredential(r)
			if kind != tt.kind || got != tt.secret || user != tt.user || !errors.Is(err, tt.err) {
				t.Errorf("taken: %v %q %q %v", kind, got, user, err)
			}
			if seen.RequestURI != tt.seen || seen.URL.RequestURI() != tt.seen || seen.Header.Get("Authorization") != "" {
				t.Errorf("seen: %s, %s, %v", seen.RequestURI, seen.URL, seen.Header)
			}
			if err != nil && strings.Contains(err.Error(), secret) {
				t.Errorf("the error shows the secret: %v", err)
			}
		})
	}
}

// FuzzTakenCredential: no query hides a token, and one without is left alone.
func FuzzTakenCredential(f *testing.F) {
	f.Add("a=b", "")
	f.Add("access_token=x&y=%", "Bearer a")
	f.Add("%61ccess_token=x;access_token=y", "Basic YTpi")
	f.Fuzz(func(t *testing.T, query, authorization string) {
		r := &http.Request{Method: http.MethodGet, URL: &url.URL{Path: "/a", RawQuery: query}, RequestURI: "/a?" + query, Header: http.Header{}}
		if authorization != "" {
			r.Header.Set("Authorization", authorization)
		}
		_, _, _, seen, _ := server.TakenCredential(r)
		for part := range strings.SplitSeq(seen.URL.RawQuery, "&") {
			name, _, _ := strings.Cut(part, "=")
			if plain, err := url.QueryUnescape(name); err == nil && plain == "access_token" {
				t.Errorf("%q becomes %q", query, seen.URL.RawQuery)
			}
		}
		if seen.Header.Get("Authorization") != "" || !strings.HasPrefix(seen.RequestURI, "/a") {
			t.Errorf("seen: %s, %v", seen.RequestURI, seen.Header)
		}
	})
}
