package redis_test

import (
	"reflect"
	"strings"
	"testing"

	"github.com/parley-im/parley/internal/backend/redis"
)

func TestParseAddress(t *testing.T) {
	for s, want := range map[string]redis.Address{
		"redis://localhost":               {Hosts: []string{"localhost:6379"}},
		"redis://r.example:7/":            {Hosts: []string{"r.example:7"}},
		"rediss://ann@10.0.0.1:7/3":       {Hosts: []string{"10.0.0.1:7"}, TLS: true, User: "ann", DB: 3},
		"redis://[::1]:7":                 {Hosts: []string{"[::1]:7"}},
		"redis://[::1]":                   {Hosts: []string{"[::1]:6379"}},
		"redis-sentinel://a,b:1,c/chat":   {Hosts: []string{"a:26379", "b:1", "c:26379"}, Master: "chat"},
		"rediss-sentinel://u@a:1/chat/15": {Hosts: []string{"a:1"}, Master: "chat", TLS: true, User: "u", DB: 15},
	} {
		if got, err := redis.ParseAddress(s); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s is %+v, %v; want %+v", s, got, err, want)
		}
	}
	for s, want := range map[string]string{
		"":                                 "no address",
		"localhost:6379":                   "no address",
		"http://localhost":                 "no address",
		"redis://":                         "host",
		"redis://:6379":                    "host",
		"redis://a:0":                      "port",
		"redis://a:65536":                  "port",
		"redis://a:x":                      "port",
		"redis://a,b":                      "too many hosts",
		"redis://a/x":                      "no number",
		"redis://a/-1":                     "no number",
		"redis://a/1/2":                    "too long",
		"redis://a?db=1":                   "host",
		"redis://a b":                      "host",
		"redis://@a":                       "empty user",
		"redis-sentinel://a":               "no master",
		"redis-sentinel://a/":              "no master",
		"redis-sentinel://a/x y":           "no master",
		"redis-sentinel://a,a:26379/chat":  "twice",
		"redis-sentinel://a,,b/chat":       "host",
		"redis://:hunter2@localhost":       "password",
		"redis://ann:hunter2@localhost":    "password",
		"http://ann:hunter2@localhost":     "password",
		"redis:ann:hunter2@localhost":      "password",
		"redis://ann:hunter2/x@localhost":  "password",
		"redis://ann:hun@ter2@localhost/0": "password",
	} {
		_, err := redis.ParseAddress(s)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v, want an error with %q", s, err, want)
		}
	}
}

// Whatever is read names at least one host, and no password is kept.
func FuzzParseAddress(f *testing.F) {
	f.Add("redis-sentinel://ann@a:1,b/chat/2")
	f.Add("redis://:hunter2@a")
	f.Fuzz(func(t *testing.T, s string) {
		a, err := redis.ParseAddress(s)
		if err != nil {
			return
		}
		if len(a.Hosts) == 0 || strings.ContainsAny(a.User, ":@/") || strings.ContainsAny(a.Master, ":@/") {
			t.Fatalf("%q is %+v", s, a)
		}
	})
}
