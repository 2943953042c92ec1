package arch_test

import (
	"os"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/parley-im/parley/internal/arch"
)

// root is the module's folder, seen from this package's.
const root = "../.."

func TestModule(t *testing.T) {
	faults, err := arch.Check(os.DirFS(root))
	if err != nil {
		t.Fatal(err)
	}
	for _, fault := range faults {
		t.Error(fault)
	}
}

// TestPlantedFaults shows that each rule can fail, and that what looks similar
// and is allowed passes.
func TestPlantedFaults(t *testing.T) {
	const (
		parley = `"github.com/parley-im/parley"`
		at     = `"github.com/parley-im/parley/`
	)
	tests := []struct {
		name, file, src string
		want            string // part of the only fault; empty: there is none
	}{
		{"the root imports nothing", "topic.go", `package parley; import ` + at + `server"`, ". may not import server"},
		{"an example of the root may", "example_test.go", `package parley_test; import _ ` + at + `server"`, ""},
		{"the core knows no technology", "internal/broker/x.go", `package broker; import ` + at + `internal/backend/pebble"`, "may not import"},
		{"its tests do", "internal/broker/x_test.go", `package broker_test; import ` + at + `internal/backend/pebble"`, ""},
		{"the core knows no HTTP", "internal/broker/x.go", `package broker; import "net/http"`, "the core imports net/http"},
		{"the core imports the contracts", "internal/broker/x.go", `package broker; import (` + parley + `; ` + at + `internal/backend")`, ""},
		{"a leaf imports no sibling", "internal/protocol/native/x.go", `package native; import ` + at + `internal/protocol/gobbler"`, "may not import"},
		{"nor does its test", "internal/protocol/native/x_test.go", `package native_test; import ` + at + `internal/protocol/gobbler"`, "may not import"},
		{"a leaf imports its parent", "internal/protocol/native/x.go", `package native; import ` + at + `internal/protocol"`, ""},
		{"nobody imports the server", "internal/httpapi/x.go", `package httpapi; import ` + at + `server"`, "may not import server"},
		{"a leaf's test starts no server", "internal/wire/x_test.go", `package wire; import ` + at + `server/servertest"`, "may not import"},
		{"the client does not know the server", "client/x.go", `package client; import ` + at + `internal/broker"`, "may not import"},
		{"a test imports its package", "client/x_test.go", `package client_test; import (` + at + `client"; ` + at + `server/servertest")`, ""},
		{"a package needs a rule", "internal/cache/x.go", `package cache`, "no rule"},
		{"so does one of tests", "test/soak/x_test.go", `package soak`, "no rule"},
		{"a vague folder", "internal/util/x.go", `package strs`, "says nothing"},
		{"a vague name", "internal/wire/x.go", `package helpers`, "says nothing"},
		{"a technology has one home", "server/x.go", `package server; import "github.com/cockroachdb/pebble/v2"`, "lives in [internal/backend/pebble]"},
		{"in tests too", "server/x_test.go", `package server; import "github.com/cockroachdb/pebble/v2"`, "lives in"},
		{"a test of the core opens a store in memory", "internal/broker/x_test.go", `package broker; import "github.com/cockroachdb/pebble/v2/vfs"`, ""},
		{"it is at home there", "internal/backend/pebble/x.go", `package pebble; import "github.com/cockroachdb/pebble/v2/vfs"`, ""},
		{"a name that only begins alike", "internal/wire/x.go", `package wire; import "github.com/gobwas/wss"`, "no home"},
		{"an unknown technology", "server/x.go", `package server; import "example.com/x"`, "no home"},
		{"a tool of tests in code", "internal/wire/x.go", `package wire; import "go.uber.org/goleak"`, "tests only"},
		{"a tool of tests in a test", "internal/wire/x_test.go", `package wire; import "go.uber.org/goleak"`, ""},
		{"log", "server/x.go", `package server; import "log"`, "log/slog"},
		{"unsafe, in a test as well", "internal/wire/x_test.go", `package wire; import "unsafe"`, "unsafe"},
		{"a go statement", "client/x.go", `package client; func f() { go f() }`, "go statement"},
		{"one inside a closure", "client/x.go", `package client; func f() { func() { go f() }() }`, "go statement"},
		{"one in a test", "client/x_test.go", `package client; func f() { go f() }`, ""},
		{"init", "client/x.go", `package client; func init() {}`, "init function"},
		{"a method named init", "client/x.go", `package client; type t int; func (t) init() {}`, ""},
		{"a variable", "client/x.go", `package client; var cache map[string]int`, "variable cache"},
		{"one among guards", "client/x.go", "package client\nvar (\n_ = 1\nerrX, count = 1, 2\n)", "variable count"},
		{"errors and guards", "client/x.go", "package client\nvar (\n_ = 1\nerrX = 2\nErrY = 3\n)", ""},
		{"a variable with a reason", "client/x.go", "package client\n//nolint:gochecknoglobals // because\nvar pool int", ""},
		{"a variable without one", "client/x.go", "package client\n//nolint:gochecknoglobals\nvar pool int", "variable pool"},
		{"an embedded file", "client/x.go", "package client\nimport _ \"embed\"\n//go:embed x.txt\nvar page string", ""},
		{"a variable of a test", "client/x_test.go", `package client; var update bool`, ""},
		{"a local variable", "client/x.go", `package client; func f() { var n int; _ = n }`, ""},
		{"sleeping", "client/x_test.go", `package client; import "time"; func f() { time.Sleep(1) }`, "time.Sleep"},
		{"sleeping in virtual time", "client/x_test.go", `package client; import ("time"; "testing/synctest"); func f() { time.Sleep(1) }`, ""},
		{"sleeping under another name", "client/x.go", `package client; import clock "time"; func f() { clock.Sleep(1) }`, "time.Sleep"},
		{"decoding a stranger's bytes", "internal/protocol/native/x.go", `package native; import "encoding/json"; var _ = json.Unmarshal`, "stranger"},
		{"or a stream of them", "internal/httpapi/x.go", `package httpapi; import j "encoding/json"; var _ = j.NewDecoder`, "stranger"},
		{"encoding", "internal/httpapi/x.go", `package httpapi; import "encoding/json"; var _ = json.Marshal`, ""},
		{"decoding in a test", "internal/protocol/native/x_test.go", `package native; import "encoding/json"; var _ = json.Unmarshal`, ""},
		{"decoding an answer of ours", "client/x.go", `package client; import "encoding/json"; var _ = json.Unmarshal`, ""},
		{"test data", "client/testdata/x.go", `package util; func init() {}`, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			faults, err := arch.Check(fstest.MapFS{tt.file: {Data: []byte(tt.src)}})
			if err != nil {
				t.Fatal(err)
			}
			got := strings.Join(faults, "\n")
			if tt.want == "" && got != "" || tt.want != "" && !strings.Contains(got, tt.want) {
				t.Errorf("faults %q, want one with %q", got, tt.want)
			}
			for _, fault := range faults {
				if !strings.HasPrefix(fault, tt.file+":") {
					t.Errorf("fault %q does not name the place", fault)
				}
			}
		})
	}
}

func TestUnreadableSource(t *testing.T) {
	if _, err := arch.Check(fstest.MapFS{"client/x.go": {Data: []byte("package")}}); err == nil {
		t.Error("a file that does not parse passes")
	}
}
