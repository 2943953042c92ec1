package httpapi_test

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/parley-im/parley/internal/broker"
	"github.com/parley-im/parley/internal/httpapi"
	"github.com/parley-im/parley/internal/protocol/jsonform"
)

// document is the API's description as a server gives it out.
func document(t *testing.T) *openapi3.T {
	t.Helper()
	mux := http.NewServeMux()
	httpapi.New(httpapi.Config{
		Log: broken{}, Broker: broker.New(broker.Config{Log: broken{}}), Logger: slog.New(slog.DiscardHandler),
		Admit: func(*http.Request) error { return nil }, Subscribe: http.NotFoundHandler(), Version: "0",
		Accounts: newAccounts(t),
	}).Register(mux)
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/v1/openapi.json", http.NoBody))
	d, err := openapi3.NewLoader().LoadFromData(w.Body.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestDocumentIsOpenAPI checks the document against the rules of OpenAPI 3.1, its
// examples included.
func TestDocumentIsOpenAPI(t *testing.T) {
	d := document(t)
	if !d.IsOpenAPI31OrLater() {
		t.Errorf("the document is of version %s", d.OpenAPI)
	}
	if err := d.Validate(t.Context()); err != nil {
		t.Error(err)
	}
	d.OpenAPI, d.Info = "3.1.0", nil
	if d.Validate(t.Context()) == nil {
		t.Error("a document without info passes: the check checks nothing")
	}
}

// TestSubscribeIsAnothers: the event stream is served by whoever was given, with
// a path, a description and an answer to other methods like the rest.
func TestSubscribeIsAnothers(t *testing.T) {
	mux := http.NewServeMux()
	httpapi.New(httpapi.Config{
		Log: broken{}, Broker: broker.New(broker.Config{Log: broken{}}), Logger: slog.New(slog.DiscardHandler),
		Admit: func(*http.Request) error { return nil },
		Subscribe: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = w.Write([]byte(r.PathValue("topic") + "?" + r.URL.RawQuery))
		}),
	}).Register(mux)
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/v1/subscribe/a/b?x=1&x=2", http.NoBody))
	if w.Body.String() != "a/b?x=1&x=2" {
		t.Errorf("the stream's handler is not asked: %d %s", w.Code, w.Body)
	}
	w = httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/v1/subscribe/a", http.NoBody))
	if w.Code != http.StatusMethodNotAllowed || w.Header().Get("Allow") != "GET, HEAD, OPTIONS" {
		t.Errorf("POST is answered by %d, %s", w.Code, w.Header().Get("Allow"))
	}
	if document(t).Paths.Value("/v1/subscribe/{topic}") == nil {
		t.Error("the stream is not described")
	}
}

// TestSchemasAreTheTypes compares the members of the schemas with those of the
// types that are written or read.
func TestSchemasAreTheTypes(t *testing.T) {
	d := document(t)
	for name, v := range map[string]any{
		"Topic": httpapi.Topic{}, "List": httpapi.List{}, "Purged": httpapi.Purged{}, "Counted": httpapi.Counted{},
		"User": httpapi.User{}, "Users": httpapi.Users{}, "Device": httpapi.Device{}, "Devices": httpapi.Devices{}, "Forgotten": httpapi.Forgotten{},
		"Deleted": httpapi.Deleted{}, "Token": httpapi.Token{}, "Key": httpapi.Key{}, "Keys": httpapi.Keys{}, "Certificate": httpapi.Certificate{},
		"Durable": httpapi.Durable{}, "Durables": httpapi.Durables{}, "DeadLetter": httpapi.DeadLetter{}, "DeadLetters": httpapi.DeadLetters{},
		"Done": httpapi.Done{}, "Sent": httpapi.Sent{}, "Recipient": httpapi.Recipient{}, "ReadMarker": httpapi.ReadMarker{}, "WhoAmI": httpapi.WhoAmI{},
		"Certificates": httpapi.Certificates{}, "Revoked": httpapi.Revoked{},
		"Problem": httpapi.Problem{}, "Outcome": httpapi.Outcome{}, "Reason": httpapi.Reason{}, "Retention": httpapi.Retention{},
	} {
		s := d.Components.Schemas[name].Value
		members, required := fields(reflect.TypeOf(v))
		if got := sorted(s.Properties); !slices.Equal(got, members) {
			t.Errorf("the schema %s has the members %v, the type %v", name, got, members)
		}
		if got := slices.Sorted(slices.Values(s.Required)); !slices.Equal(got, required) {
			t.Errorf("the schema %s requires %v, the type always writes %v", name, got, required)
		}
	}
	members, _ := fields(reflect.TypeFor[jsonform.Publication]())
	if got := sorted(d.Components.Schemas["Publications"].Value.Properties["messages"].Value.Items.Value.Properties); !slices.Equal(got, members) {
		t.Errorf("a message of a batch has the members %v, the type %v", got, members)
	}
	members = slices.Sorted(slices.Values(append(members, "producer")))
	if got := sorted(d.Components.Schemas["Publication"].Value.Properties); !slices.Equal(got, members) {
		t.Errorf("a message has the members %v, the type %v", got, members)
	}
}

func sorted(m openapi3.Schemas) []string {
	var names []string
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// fields are the members that a type has in JSON, and those that it always has.
func fields(t reflect.Type) (all, always []string) {
	for f := range t.Fields() {
		name, option, _ := strings.Cut(f.Tag.Get("json"), ",")
		all = append(all, name)
		if option == "" {
			always = append(always, name)
		}
	}
	slices.Sort(all)
	slices.Sort(always)
	return all, always
}
