package server_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/server"
)

// file writes a configuration file and returns its path.
func file(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "parley.yaml")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestLaterSourcesWin(t *testing.T) {
	all := server.Sources{
		File:    file(t, "max-message: 1KiB\n"),
		Environ: []string{"PARLEY_MAX_MESSAGE=2KiB", "HOME=/root"},
		Flags:   map[string][]string{"max-message": {"3KiB", "4KiB"}},
	}
	withoutFlags := server.Sources{File: all.File, Environ: all.Environ}
	for name, tt := range map[string]struct {
		src  server.Sources
		want int64
	}{
		"default":           {server.Sources{}, 1 << 20},
		"file":              {server.Sources{File: all.File}, 1 << 10},
		"environment":       {withoutFlags, 2 << 10},
		"flag, last counts": {all, 4 << 10},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := server.Load(tt.src)
			if err != nil {
				t.Fatal(err)
			}
			if c.Limits.Message != tt.want {
				t.Errorf("max-message is %d, want %d", c.Limits.Message, tt.want)
			}
		})
	}
}

func TestListsFromEverySource(t *testing.T) {
	want := []string{"https://a.example", "http://b.example:81"}
	for name, src := range map[string]server.Sources{
		"flags":       {Flags: map[string][]string{"allow-origin": want}},
		"environment": {Environ: []string{"PARLEY_ALLOW_ORIGIN=https://a.example http://b.example:81"}},
		"file":        {File: file(t, "allow-origin:\n  - https://a.example\n  - http://b.example:81\n")},
		"stronger replaces": {
			File:  file(t, "allow-origin: https://c.example"),
			Flags: map[string][]string{"allow-origin": want},
		},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := server.Load(src)
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(c.HTTP.Origins, " "); got != strings.Join(want, " ") {
				t.Errorf("origins are %q, want %q", got, want)
			}
		})
	}
}

// TestFaults gives one wrong value each and wants the error to name the key,
// the source and what is allowed.
func TestFaults(t *testing.T) {
	flag := func(key, value string) server.Sources {
		return server.Sources{Flags: map[string][]string{key: {value}}}
	}
	env := func(entry string) server.Sources { return server.Sources{Environ: []string{entry}} }
	yaml := func(text string) server.Sources { return server.Sources{File: file(t, text)} }
	for name, tt := range map[string]struct {
		src  server.Sources
		want []string
	}{
		"address without port":   {flag("http", "localhost"), []string{"flag --http", `"localhost"`, "HOST:PORT"}},
		"port too large":         {flag("http", "127.0.0.1:65536"), []string{"flag --http", "0 to 65535"}},
		"port with a sign":       {flag("http", "127.0.0.1:+80"), []string{"flag --http", "+80"}},
		"wider than loopback":    {flag("http", "0.0.0.0:80"), []string{"flag --http", "loopback", "--open-to-network"}},
		"every address":          {flag("http", ":8080"), []string{"flag --http", "--open-to-network"}},
		"name is not loopback":   {flag("http", "parley.example:80"), []string{"flag --http", "--open-to-network"}},
		"wide by environment":    {env("PARLEY_HTTP=[::]:80"), []string{"environment PARLEY_HTTP", "--open-to-network"}},
		"wide by file":           {yaml("\nhttp: 10.0.0.1:80"), []string{"file ", "line 2 http", "--open-to-network"}},
		"kind of store":          {flag("ms", "redis"), []string{"flag --ms", `"redis"`, "file, memory"}},
		"no history":             {flag("ms", "none"), []string{"flag --ms", `"none" is not supported`, "--ms memory", "--retention"}},
		"no history at all":      {env("GUBLE_MS=none"), []string{"environment GUBLE_MS", "--ms memory"}},
		"records in Postgres":    {env("GOBBLER_KVS=postgres"), []string{"environment GOBBLER_KVS", "the store itself", "file, memory"}},
		"records elsewhere":      {flag("kvs", "etcd"), []string{"flag --kvs", "file, memory"}},
		"environment":            {flag("env", "prd"), []string{"flag --env", `"prd"`, "production"}},
		"profile":                {flag("profile", "heap"), []string{"flag --profile", `"heap"`, "cpu, mem, block"}},
		"fallback is checked":    {env("GUBLE_LOG=loud"), []string{"environment GUBLE_LOG", `"loud"`}},
		"size with a decimal":    {flag("max-message", "1.5MiB"), []string{"not a size"}},
		"size in another unit":   {flag("max-message", "1MB"), []string{`"1MB"`, "MiB"}},
		"size in small letters":  {flag("max-message", "1mib"), []string{"not a size"}},
		"count with a fraction":  {flag("max-connections", "1e3"), []string{"whole number"}},
		"count overflows":        {flag("max-connections", "99999999999999999999"), []string{"whole number"}},
		"negative count":         {flag("max-connections", "-1"), []string{"too small"}},
		"duration in a typo":     {flag("drain-timeout", "10sec"), []string{"not a duration"}},
		"empty flag":             {flag("max-message", ""), []string{"flag --max-message", `""`}},
		"empty variable":         {env("PARLEY_MS="), []string{"environment PARLEY_MS", "file, memory"}},
		"old name, new prefix":   {env("PARLEY_HTTP_LISTEN=:0"), []string{"no such setting; it is PARLEY_HTTP"}},
		"level":                  {env("PARLEY_LOG=loud"), []string{"environment PARLEY_LOG", `"loud"`, "error, warn, info, debug"}},
		"level in capitals":      {env("PARLEY_LOG=INFO"), []string{"environment PARLEY_LOG", "allowed"}},
		"format":                 {flag("log-format", ""), []string{"flag --log-format", `""`, "auto, text, json"}},
		"size without unit name": {flag("max-message", "1XB"), []string{"flag --max-message", `"1XB"`, "KiB"}},
		"negative size":          {flag("max-message", "-1"), []string{"flag --max-message", "not a size"}},
		"size too large":         {flag("max-message", "65MiB"), []string{"too large", "64MiB"}},
		"size overflows":         {flag("publish-queue", "9999999TiB"), []string{"not a size"}},
		"no size":                {flag("max-message", "0"), []string{"too small"}},
		"duration":               {flag("drain-timeout", "10"), []string{"flag --drain-timeout", "not a duration"}},
		"duration too short":     {flag("drain-timeout", "1ms"), []string{"too small", "1s to 1h"}},
		"negative duration":      {flag("write-timeout", "-5s"), []string{"not a duration"}},
		"duration overflows":     {flag("write-timeout", "106752d"), []string{"not a duration"}},
		"count":                  {flag("max-connections", "many"), []string{"flag --max-connections", "whole number"}},
		"count of none":          {flag("max-connections", "0"), []string{"too small", "1 to"}},
		"switch":                 {flag("open-to-network", "yes"), []string{"flag --open-to-network", "true, false"}},
		"origin with a path":     {flag("allow-origin", "https://a.example/x"), []string{"flag --allow-origin", "SCHEME://HOST"}},
		"any origin":             {flag("allow-origin", "*"), []string{"not a web origin"}},
		"second origin":          {server.Sources{Flags: map[string][]string{"allow-origin": {"https://a.example", "b"}}}, []string{`"b"`}},
		"prefix without slash":   {flag("ws-prefix", "/stream"), []string{"flag --ws-prefix", "/stream/"}},
		"prefix taken":           {flag("ws-prefix", "/admin/x/"), []string{"taken"}},
		"prefix with a pattern":  {flag("ws-prefix", "/{x}/"), []string{"not such a path"}},
		"prefix upwards":         {flag("ws-prefix", "/a/../b/"), []string{"not such a path"}},
		"prefix of the HTTP API": {flag("ws-prefix", "/api/"), []string{"taken"}},
		"prefix's dialect":       {flag("ws-prefix", "/doc/=old"), []string{`"/doc/=old"`, "names no dialect", "=documented"}},
		"prefix without dialect": {flag("ws-prefix", "/doc/="), []string{"names no dialect"}},
		"second prefix":          {server.Sources{Flags: map[string][]string{"ws-prefix": {"/a/", "b"}}}, []string{`"b"`}},
		"two prefixes":           {server.Sources{Flags: map[string][]string{"ws-prefix": {"/a/", "/a/=documented"}}}, []string{`two prefixes "/a/"`}},
		"endpoint in a prefix":   {server.Sources{Flags: map[string][]string{"ws-prefix": {"/a/", "/b/"}, "health-endpoint": {"/b/x"}}}, []string{"flag --health-endpoint", "within ws-prefix"}},
		"dialect":                {flag("gobbler-dialect", "guble"), []string{"flag --gobbler-dialect", "deployed, documented"}},
		"endpoint of ours":       {flag("toggles-endpoint", "/admin/router"), []string{"taken"}},
		"endpoint taken":         {flag("health-endpoint", "/admin/readycheck"), []string{"taken"}},
		"endpoint below a taken": {flag("prometheus-endpoint", "/admin/debug/x"), []string{"taken"}},
		"endpoint of another":    {flag("health-endpoint", "/v1/rpc"), []string{"taken"}},
		"endpoint of publishes":  {flag("toggles-endpoint", "/api/message"), []string{"taken"}},
		"endpoint of clients":    {flag("health-endpoint", "/stream/health"), []string{"flag --health-endpoint", "within ws-prefix"}},
		"endpoint upwards":       {flag("health-endpoint", "/a/../b"), []string{"not such a path"}},
		"endpoint is the root":   {flag("health-endpoint", "/"), []string{"not such a path"}},
		"endpoint with method":   {flag("health-endpoint", "POST /health"), []string{"not such a path"}},
		"endpoints equal":        {flag("health-endpoint", "/admin/metrics"), []string{"prometheus-endpoint", "health-endpoint"}},
		"no store":               {flag("storage-path", ""), []string{"flag --storage-path", "directory"}},
		"queue below a message":  {server.Sources{Flags: map[string][]string{"max-message": {"4MiB"}, "publish-queue": {"1MiB"}}}, []string{"flag --publish-queue", "max-message"}},
		"rule without bounds":    {flag("retention", "orders"), []string{"flag --retention", "no '='", "age:DURATION"}},
		"rule with a bad bound":  {flag("retention", "orders=size:3"), []string{`unknown bound "size"`}},
		"rule with an empty one": {flag("retention", "orders="), []string{`unknown bound ""`}},
		"rule bound twice":       {flag("retention", "orders=age:1d,age:2d"), []string{"age twice"}},
		"rule bound of nothing":  {flag("retention", "orders=messages:0"), []string{"not above 0"}},
		"rule below the root":    {flag("retention", "orders/eu=age:1d"), []string{"first segment"}},
		"rule for ours":          {flag("retention", "$inbox=age:1d"), []string{"server's own"}},
		"inbox without bounds":   {flag("inbox-retention", ""), []string{"flag --inbox-retention", `unknown bound ""`, "age:DURATION"}},
		"inbox with a stream":    {flag("inbox-retention", "ann=age:1d"), []string{`unknown bound "ann=age"`}},
		"dead letters of none":   {flag("dead-letter-retention", "age:0s"), []string{"flag --dead-letter-retention", "not above 0"}},
		"two rules":              {server.Sources{Flags: map[string][]string{"retention": {"a=age:1d", "a=age:2d"}}}, []string{`two rules for "a"`}},
		"unknown variable":       {env("PARLEY_HTPP=:80"), []string{"environment PARLEY_HTPP", "no such setting"}},
		"unknown key":            {yaml("ms: memory\nhtpp: :80\n"), []string{"line 2", `unknown key "htpp"`}},
		"key in other case":      {yaml("HTTP: 127.0.0.1:80\n"), []string{"line 1", `unknown key "HTTP"`}},
		"key twice":              {yaml("ms: memory\nlog: info\nms: file\n"), []string{"line 3", "ms is given twice, first in line 1"}},
		"file is a list":         {yaml("- ms\n"), []string{"line 1", "list of settings"}},
		"file is no YAML":        {yaml("ms: [\n"), []string{"file "}},
		"two documents":          {yaml("ms: memory\n---\nms: file\n"), []string{"file "}},
		"value is a list":        {yaml("ms: [memory]\n"), []string{"line 1", "ms is not a single value"}},
		"value is missing":       {yaml("log:\n"), []string{"line 1", "log has no value"}},
		"list of lists":          {yaml("retention: [[a]]\n"), []string{"line 1", "list of single values"}},
		"anchor":                 {yaml("log: &l info\n"), []string{"line 1", "log", "anchors"}},
		"alias":                  {yaml("log: &l info\nms: *l\n"), []string{"2 faults", "anchors and aliases"}},
		"tag":                    {yaml("log: !!str info\n"), []string{"line 1", "tags"}},
		"tag of its own":         {yaml("log: !include info\n"), []string{"line 1", "tags"}},
		"tag in a list":          {yaml("retention: [!!str a=age:1d]\n"), []string{"line 1", "tags"}},
		"merge":                  {yaml("<<: {log: info}\n"), []string{"line 1", "merge"}},
		"key is a list":          {yaml("? [log]\n: info\n"), []string{"line 1", "unknown key"}},
		"UTF-16":                 {yaml("\xff\xfel\x00o\x00g\x00:\x00 \x00i\x00n\x00f\x00o\x00"), []string{"UTF-8"}},
		"directory":              {server.Sources{File: os.TempDir()}, []string{"is a directory"}},
		"device":                 {server.Sources{File: os.DevNull}, []string{"not a plain file"}},
		"file too large":         {yaml(strings.Repeat("#\n", 1<<20)), []string{"larger than 1MiB"}},
		"no such file":           {server.Sources{File: "/nonexistent/parley.yaml"}, []string{"file /nonexistent/parley.yaml", "no such file"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := server.Load(tt.src)
			var ce *server.ConfigError
			if !errors.As(err, &ce) || !errors.Is(err, parley.ErrInvalid) {
				t.Fatalf("Load returned %v, want a ConfigError that is ErrInvalid", err)
			}
			if len(ce.Faults) != 1 && !strings.HasSuffix(tt.want[0], " faults") {
				t.Errorf("%d faults, want 1: %v", len(ce.Faults), err)
			}
			for _, part := range tt.want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("error does not say %q:\n%v", part, err)
				}
			}
		})
	}
}

func TestAllFaultsAtOnce(t *testing.T) {
	_, err := server.Load(server.Sources{
		File:    file(t, "htpp: x\nlog: loud\nretention: [a, b=age:0s]\n"),
		Environ: []string{"PARLEY_TYPO=1", "PARLEY_MS=tape"},
		Flags:   map[string][]string{"http": {":80"}, "max-message": {"none"}, "log": {"info"}},
	})
	if err == nil {
		t.Fatal("no error")
	}
	for _, part := range []string{
		"8 faults", "line 1", "line 2 log", "line 3 retention", `"a" has no`, `"b=age:0s" age`,
		"PARLEY_TYPO", "PARLEY_MS", "--http", "--max-message",
	} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error does not say %q:\n%v", part, err)
		}
	}
}

// TestLongValueIsCut gives every setting a megabyte, with what makes it look
// right: an error says what is wrong in a few words.
func TestLongValueIsCut(t *testing.T) {
	t.Parallel()
	huge := strings.Repeat("x", 1<<20)
	for _, s := range server.Settings() {
		if s.Instead != "" {
			continue // it never says what it was given
		}
		for _, begin := range []string{"", "a=", "a=age:", "127.0.0.1:"} {
			_, err := server.Load(server.Sources{Flags: map[string][]string{s.Flag(): {begin + huge}}})
			if err != nil && len(err.Error()) > 800 {
				t.Errorf("%s: the error is %d bytes long: %.300s", s.Key, len(err.Error()), err)
			}
		}
	}
	for _, text := range []string{huge[:1<<19] + ": 1\n", "log: " + huge[:1<<19] + "\n", huge[:1<<19], "log: [" + huge[:1<<19]} {
		if _, err := server.Load(server.Sources{File: file(t, text)}); err == nil || len(err.Error()) > 800 {
			t.Errorf("%.10s in a file: the error is not short: %.300v", text, err)
		}
	}
}

func TestUnreadableFile(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("unreadable: root may read everything")
	}
	name := file(t, "log: info\n")
	if err := os.Chmod(name, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := server.Load(server.Sources{File: name}); err == nil || !strings.Contains(err.Error(), "permission denied") {
		t.Errorf("Load says %v, want that it may not read the file", err)
	}
}

func TestOthersVariablesAreLeftAlone(t *testing.T) {
	_, err := server.Load(server.Sources{Environ: []string{
		"PARLEY_URL=http://x", "PARLEY_CONFIG=/x", "PARLEY_SOAK=1", "PARLEY_TEST_REQUIRE=nats",
		"PARLEY_PORT=tcp://10.0.0.1:80", "PARLEY_PORT_80_TCP=x", "PARLEY_SERVICE_HOST=10.0.0.1",
	}})
	if err != nil {
		t.Error(err)
	}
}

func TestGoodValues(t *testing.T) {
	c, err := server.Load(server.Sources{
		File: file(t, "\ufeff# a mark of the byte order, as some editors write it\n# as in the documentation\nhealth-endpoint: \"\"\nopen-to-network: true\nmax-connections: 500\n"),
		Flags: map[string][]string{
			"http":          {":0"},
			"retention":     {"orders=age:720h,bytes:10GiB,messages:1000000", "*=age:30d"},
			"drain-timeout": {"1m30s"},
			"log":           {"warn"},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if c.HTTP.Health != "" || !c.HTTP.OpenToNetwork || c.HTTP.Connections != 500 || c.Drain != 90*time.Second {
		t.Errorf("configuration is %+v", c)
	}
	if len(c.Retention) != 2 || c.Retention[0] != (server.Retention{Stream: "orders", Age: 720 * time.Hour, Bytes: 10 << 30, Messages: 1e6}) {
		t.Errorf("retention is %v", c.Retention)
	}
}

func TestValidateChecksWhatAProgramSet(t *testing.T) {
	c := server.Default()
	if err := c.Validate(); err != nil {
		t.Errorf("the default has faults: %v", err)
	}
	c.Limits.Message = -1
	c.Log.Format = "xml"
	c.Retention = []server.Retention{{Stream: "a"}}
	err := c.Validate()
	if err == nil {
		t.Fatal("no fault found")
	}
	for _, part := range []string{"3 faults", "max-message", "log-format", "retention"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error does not say %q:\n%v", part, err)
		}
	}
}
