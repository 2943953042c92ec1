package server_test

import (
	"encoding/json"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/parley-im/parley/server/servertest"
)

// described is what a server says of its HTTP API.
func described(t *testing.T, s *servertest.Server) *openapi3.T {
	t.Helper()
	d, err := openapi3.NewLoader().LoadFromData([]byte(request(t, "GET", s.URL+"/v1/openapi.json", nil).body))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestAnswersAreAsDescribed holds an answer of every operation against the schema
// that the document has for its status.
func TestAnswersAreAsDescribed(t *testing.T) {
	s := servertest.Start(t)
	d := described(t, s)
	full := `{"topic":"/a/b","data":"/w==","id":"1","headers":{"k":"v"},"expires":"2999-01-01T00:00:00Z"}`
	tried := map[string]bool{}
	for _, tt := range []struct {
		method, path, operation string
		edit                    func(*http.Request)
		status                  int
	}{
		{"POST", "/v1/messages/a", "publish", withBody("text/plain", "x"), 201},
		{"POST", "/v1/messages", "publishBatch", withBody("application/json", full), 201},
		{"POST", "/v1/messages", "publishBatch", withBody("application/json", `{"messages":[`+full+`]}`), 200},
		{"POST", "/v1/messages", "publishBatch", withBody("application/json", `{"messages":[{"topic":"/$a"}]}`), 403},
		{"POST", "/v1/messages", "publishBatch", withBody("text/plain", "x"), 415},
		{"GET", "/v1/messages/a", "history", nil, 200},
		{"GET", "/v1/messages/a?limit=0", "history", nil, 400},
		{"GET", "/v1/body/none", "body", nil, 404},
		{"GET", "/v1/count/a", "count", nil, 200},
		{"GET", "/v1/subscribe/a?x=1", "subscribe", nil, 400},
		{"GET", "/v1/topics", "listTopics", nil, 200},
		{"PUT", "/v1/retention/a", "setRetention", withBody("application/json", `{"age":"1d","bytes":1000000,"messages":100}`), 200},
		{"GET", "/v1/topics/a/b", "showTopic", nil, 200},
		{"GET", "/v1/retention/a", "showRetention", nil, 200},
		{"DELETE", "/v1/retention/a", "resetRetention", nil, 200},
		{"DELETE", "/v1/retention/a", "resetRetention", nil, 404},
		{"DELETE", "/v1/topics/a", "purgeTopic", nil, 200},
		{"GET", "/v1/openapi.json", "openapi", nil, 200},
		{"POST", "/v1/send", "send", as("bob", `{"to":["ann","eve"],"text":"hi","id":"1","receipts":true}`), 201},
		{"POST", "/v1/send", "send", as("bob", `{"to":["ann","eve"],"text":"hi","id":"1","receipts":true}`), 200},
		{"POST", "/v1/send", "send", as("bob", `{"to":["ann","eve"],"text":"other","id":"1"}`), 409},
		{"POST", "/v1/send", "send", withBody("application/json", `{"to":"ann"}`), 401},
		{"GET", "/v1/inbox", "inbox", as("ann", ""), 200},
		{"GET", "/v1/inbox/unread", "unread", as("ann", ""), 200},
		{"POST", "/v1/inbox/read", "markRead", as("ann", `{"seq":1}`), 200},
		{"GET", "/v1/whoami", "whoami", as("ann", ""), 200},
		{"GET", "/v1/whoami", "whoami", nil, 200},
		{"GET", "/v1/subscriptions?owner=ann", "listSubscriptions", nil, 200},
		{"GET", "/v1/subscriptions/orders?owner=ann&name=x", "showSubscription", nil, 404},
		{"PATCH", "/v1/subscriptions/orders?owner=ann&name=x", "changeSubscription", withBody("application/json", `{"paused":true}`), 404},
		{"PATCH", "/v1/subscriptions/orders?owner=ann&name=x", "changeSubscription", withBody("application/json", `{"after":1,"last":1}`), 400},
		{"DELETE", "/v1/subscriptions/orders?owner=ann&name=x", "deleteSubscription", nil, 404},
		{"GET", "/v1/dead-letters?owner=ann", "listDeadLetters", nil, 200},
		{"POST", "/v1/dead-letters/7/replay?owner=ann", "replayDeadLetter", nil, 404},
		{"DELETE", "/v1/dead-letters/7?owner=ann", "removeDeadLetter", nil, 200},
		{"POST", "/v1/users", "createUser", withBody("application/json", `{"user":"ann","display":"A","email":"e","grants":["all:/a"]}`), 201},
		{"POST", "/v1/users", "createUser", withBody("application/json", `{"user":"ann"}`), 409},
		{"GET", "/v1/users", "listUsers", nil, 200},
		{"GET", "/v1/users/ann", "showUser", nil, 200},
		{"PATCH", "/v1/users/ann", "changeUser", withBody("application/json", `{"suspended":true}`), 200},
		{"GET", "/v1/users/ann/devices", "listDevices", nil, 200},
		{"DELETE", "/v1/users/ann/devices/phone", "forgetDevice", nil, 404},
		{"GET", "/v1/users/nobody/export", "exportUser", nil, 404},
		{"POST", "/v1/users/ann/tokens", "issueToken", withBody("application/json", `{"ttl":"1h"}`), 400},
		{"POST", "/v1/certificates", "issueCertificate", withBody("application/json", `{"user":"ann"}`), 400},
		{"DELETE", "/v1/users/ann/tokens", "revokeTokens", nil, 200},
		{"DELETE", "/v1/tokens/x?until=2999-01-01T00:00:00Z", "revokeToken", nil, 200},
		{"POST", "/v1/keys", "createKey", withBody("application/json", `{"user":"ann","note":"n","grants":["all:/a"],"ttl":"1d"}`), 201},
		{"GET", "/v1/keys", "listKeys", nil, 200},
		{"DELETE", "/v1/keys/0123456789abcdef", "revokeKey", nil, 404},
		{"DELETE", "/v1/certificates/1F", "revokeCertificate", nil, 200},
		{"GET", "/v1/certificates", "listCertificates", nil, 200},
		{"DELETE", "/v1/users/ann", "deleteUser", nil, 200},
	} {
		got := request(t, tt.method, s.URL+tt.path, tt.edit)
		if got.status != tt.status {
			t.Errorf("%s %s is %d %s, want %d", tt.method, tt.path, got.status, got.body, tt.status)
			continue
		}
		tried[tt.operation] = true
		response := operation(d, tt.operation).Responses.Status(got.status)
		if response == nil {
			t.Errorf("%s is answered by %d, which is not described", tt.operation, got.status)
			continue
		}
		mediaType, _, _ := strings.Cut(got.header.Get("Content-Type"), ";")
		content := response.Value.Content[mediaType]
		var v any
		if content == nil || json.Unmarshal([]byte(got.body), &v) != nil {
			t.Errorf("%s is answered by %s, which is not described: %s", tt.operation, mediaType, got.body)
			continue
		}
		if err := content.Schema.Value.VisitJSON(v, openapi3.EnableJSONSchema2020()); err != nil {
			t.Errorf("%s: %s: %v", tt.operation, got.body, err)
		}
	}
	for path, item := range d.Paths.Map() {
		for method, o := range item.Operations() {
			if !tried[o.OperationID] && !strings.HasPrefix(path, "/v1/docs") {
				t.Errorf("%s %s was not tried", method, path)
			}
		}
	}
}

// as makes a request that of a user, at a server that asks for no credential; with
// a body of JSON unless that is empty.
func as(user, body string) func(*http.Request) {
	return func(r *http.Request) {
		if body != "" {
			withBody("application/json", body)(r)
		}
		r.Header.Set("Parley-User", user)
	}
}

func operation(d *openapi3.T, id string) *openapi3.Operation {
	for _, item := range d.Paths.Map() {
		for _, o := range item.Operations() {
			if o.OperationID == id {
				return o
			}
		}
	}
	return nil
}

// TestRoutesAreDocumented: the pages about the HTTP API name every route and every
// code of an error.
func TestRoutesAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../docs/protocol/http.md")
	if err != nil {
		t.Fatal(err)
	}
	d := described(t, servertest.Start(t))
	users, err := os.ReadFile("../docs/protocol/users.md")
	if err != nil {
		t.Fatal(err)
	}
	page = append(page, users...)
	names := strings.NewReplacer("{topic}", "TOPIC", "{stream}", "STREAM", "{user}", "USER", "{device}", "DEVICE", "{id}", "ID", "{serial}", "SERIAL", "{seq}", "SEQ")
	for path := range d.Paths.Map() {
		if !strings.HasPrefix(path, "/v1/docs/") && !strings.Contains(string(page), names.Replace(path)+"`") {
			t.Errorf("docs/protocol/http.md lacks %s", names.Replace(path))
		}
	}
	for _, code := range d.Components.Schemas["Reason"].Value.Properties["code"].Value.Enum {
		if !strings.Contains(string(page), "`"+code.(string)+"`") {
			t.Errorf("docs/protocol/http.md lacks the code %s", code)
		}
	}
}
