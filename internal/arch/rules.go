package arch

// rule says what one package may import of this module; the standard library
// and technologies have tables of their own. Paths are relative to the module,
// "." is the root.
type rule struct {
	imports []string // what its code may import
	tests   []string // what its tests may import besides, and besides suites
}

// packages has a rule for every package of the module: a new one needs a line
// here, and with it a thought about its place in docs/architecture.
func packages() map[string]rule {
	core := []string{".", "internal/backend"}
	protocol := []string{".", "internal/backend", "internal/account", "internal/broker", "internal/limit", "internal/wire"}
	codec := append([]string{"internal/protocol", "internal/protocol/jsonrpc", "internal/protocol/jsonform"}, protocol...)
	return map[string]rule{
		// The vocabulary and the core: no technology.
		".":                {tests: []string{"client", "server"}},
		"internal/backend": {imports: []string{"."}},
		"internal/clock":   {},
		"internal/limit":   {imports: []string{"."}},
		"internal/audit":   {imports: []string{"internal/limit"}},
		"internal/account": {imports: append([]string{"internal/clock"}, core...)},
		"internal/broker":  {imports: append([]string{"internal/clock", "internal/account"}, core...)},

		// Leaves: they never import a sibling.
		"internal/backend/pebble":        {imports: core},
		"internal/backend/local":         {imports: core},
		"internal/backend/redis":         {imports: core, tests: []string{"test/redisserver"}},
		"internal/backend/backendtest":   {imports: core},
		"internal/wire":                  {imports: []string{"."}},
		"internal/protocol":              {imports: protocol},
		"internal/protocol/jsonrpc":      {imports: []string{"."}},
		"internal/protocol/jsonform":     {imports: []string{".", "internal/backend", "internal/broker", "internal/limit", "internal/protocol/jsonrpc"}},
		"internal/protocol/native":       {imports: codec},
		"internal/protocol/gobbler":      {imports: codec},
		"internal/protocol/titan":        {imports: codec},
		"internal/protocol/texto":        {imports: codec, tests: []string{"internal/backend/redis", "test/redisserver"}},
		"internal/protocol/sse":          {imports: append([]string{"internal/units"}, codec...)},
		"internal/protocol/protocoltest": {imports: codec},
		"internal/httpapi": {imports: []string{
			".", "internal/backend", "internal/account", "internal/broker", "internal/limit", "internal/protocol/jsonrpc", "internal/protocol/jsonform", "internal/units",
		}},
		"internal/units": {},
		"internal/auth":  {imports: append([]string{"internal/account", "internal/clock"}, core...)},

		// The composition root, and the programs.
		"server": {
			imports: []string{
				".", "internal/backend", "internal/account", "internal/audit", "internal/auth", "internal/broker", "internal/clock", "internal/limit", "internal/backend/pebble", "internal/backend/local", "internal/backend/redis", "internal/wire",
				"internal/protocol", "internal/protocol/native", "internal/protocol/gobbler", "internal/protocol/titan", "internal/protocol/texto", "internal/protocol/sse", "internal/httpapi", "internal/units",
			},
			tests: []string{"client", "test/redisserver"},
		},
		"server/servertest":           {imports: []string{".", "server", "internal/auth", "internal/wire"}, tests: []string{"client"}},
		"client":                      {imports: []string{".", "internal/wire"}, tests: []string{"server"}},
		"cmd/parley":                  {imports: []string{".", "client", "server", "internal/auth", "cmd/parley/internal/bench", "cmd/parley/internal/console"}},
		"cmd/parley/internal/bench":   {imports: []string{".", "client", "internal/wire"}, tests: []string{"server"}},
		"cmd/parley/internal/console": {imports: []string{".", "internal/wire"}, tests: []string{"client", "server"}},

		// Tests of the whole, and of the code itself.
		"test/oracle":      {imports: []string{"."}},
		"test/crash":       {},
		"test/chaos":       {tests: []string{"client", "server"}},
		"test/image":       {},
		"test/people":      {tests: []string{"client"}},
		"internal/arch":    {},
		"test/eventsource": {},
		"test/require":     {},
		"test/tcpproxy":    {},
		"test/redisserver": {imports: []string{"test/require"}},
		"test/browser":     {tests: []string{"client", "server"}},
		"test/proxy":       {tests: []string{"client", "server"}},
		"test/security":    {tests: []string{"client", "server", "internal/auth"}},
	}
}

// suites are what any test may import: the contracts' suites, the store in
// memory and the core, because tests run the real thing and no mock.
func suites() []string {
	return []string{
		".", "internal/backend", "internal/account", "internal/clock", "internal/backend/backendtest", "internal/backend/pebble", "internal/backend/local",
		"internal/broker", "internal/wire", "internal/protocol", "internal/protocol/protocoltest", "test/oracle",
		"test/eventsource", "test/require", "test/tcpproxy",
	}
}

// serverTests are packages whose tests may start a whole server.
func serverTests() []string {
	return []string{".", "client", "server", "cmd/parley", "cmd/parley/internal/bench", "cmd/parley/internal/console", "test/browser", "test/chaos", "test/proxy", "test/security"}
}

// technologies gives each third-party module its home: the packages whose code
// may import it. An empty list means tests only.
func technologies() map[string][]string {
	return map[string][]string{
		"github.com/cockroachdb/pebble":      {"internal/backend/pebble"},
		"github.com/golang/snappy":           {"internal/backend/pebble"},
		"github.com/gobwas/ws":               {"internal/wire"},
		"github.com/go-json-experiment/json": {"internal/protocol/jsonrpc", "internal/auth"},
		"github.com/golang-jwt/jwt":          {"internal/auth"},
		"golang.org/x/crypto":                {"server"},
		"github.com/klauspost/compress":      {"internal/wire"},
		"github.com/rs/xid":                  {"internal/protocol/gobbler"},
		"github.com/redis/go-redis":          {"internal/backend/redis"},
		"github.com/prometheus":              {"server"},
		"go.yaml.in/yaml":                    {"server", "test/image"},
		"github.com/spf13":                   {"cmd/parley"},
		"golang.org/x/sys":                   {"server", "cmd/parley"},
		"golang.org/x/term":                  {"cmd/parley"},
		"golang.org/x/sync":                  {"server", "cmd/parley", "cmd/parley/internal/bench", "cmd/parley/internal/console", "client", "internal/wire", "internal/protocol"},
		"go.uber.org/goleak":                 {},
		"github.com/rogpeppe/go-internal":    {},
		"github.com/getkin/kin-openapi":      {},
		"github.com/chromedp":                {},
	}
}

// testTechnologies are packages that any test may import: the store's memory
// file system, because tests run the real store.
func testTechnologies() []string {
	return []string{"github.com/cockroachdb/pebble/v2/vfs"}
}

// refused are packages of the standard library, and well-known others, that no
// file may import, and why.
func refused() map[string]string {
	return map[string]string{
		"log":                         "use log/slog",
		"io/ioutil":                   "use io and os",
		"unsafe":                      "no",
		"github.com/pkg/errors":       "use errors and fmt",
		"github.com/stretchr/testify": "compare with if, and print got and want",
	}
}

// coreRefused is what the core may not import of the standard library: it
// knows neither sockets nor files.
func coreRefused() []string {
	return []string{"net", "net/http", "os", "os/exec", "database/sql"}
}

// strangers are the packages that read what a stranger sent. encoding/json
// takes the last of duplicate keys, ignores their case and replaces bad UTF-8,
// so it must not decode there.
func strangers() []string {
	return []string{"internal/protocol", "internal/httpapi", "internal/wire", "internal/auth"}
}

// vagueNames say nothing about what a package is for.
func vagueNames() []string {
	return []string{
		"base", "common", "core", "data", "helper", "helpers", "info", "lib", "manager", "misc", "models", "model",
		"pkg", "service", "shared", "types", "util", "utils",
	}
}
