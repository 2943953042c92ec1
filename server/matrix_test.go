package server_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/parley-im/parley/server"
)

// samples are two good values of a setting that differ from each other.
func samples(t *testing.T, s server.Setting) (a, b string) {
	t.Helper()
	byKey := map[string][2]string{
		"ws-prefix": {"/one/", "/two/"},
		"texto":     {"/v1/texto", "/chat"},

		"token-ttl": {"1h30m", "7d"}, "certificate-ttl": {"1h30m", "7d"},
		"acme-email": {"ann@a.example", "bob@b.example"}, "acme-directory": {"https://a.example/dir", "https://b.example/dir"},
	}
	byValue := map[string][2]string{
		"HOST:PORT": {"127.0.0.1:1", "127.0.0.1:2"},
		"ORIGIN":    {"https://a.example", "http://b.example:81"},
		"PATH":      {"/one", "/admin/two"},
		"DIR":       {"one", "two"},
		"FILE":      {"one.pem", "two.pem"},
		"NUMBER":    {"11", "12"},
		"SIZE":      {"2MiB", "4MiB"},
		"DURATION":  {"5s", "1m30s"},
		"URL":       {"rediss://one", "rediss-sentinel://ann@two,three/chat/1"},
		"GRANT":     {"publish,history:/a/*", "all:/users/{user}"},
		"RATE":      {"publish/user=10/s:50", "send-bytes/address=1GiB/d"},
		"ID":        {"one.apps.example", "two.apps.example"},
		"NAME":      {"a.example", "b.example"},
		"KEY":       {"alg=HS256,iss=https://a.example,aud=chat,file=one.key", "alg=HS256,alg=HS512,user=userid,env=TITAN_PASS,legacy"},
		"KEYS":      {"alg=RS256,iss=https://a.example,aud=chat,url=https://a.example/keys", "alg=EdDSA,iss=b,aud=c,url=https://b.example/keys"},
		"PROVIDER":  {"name=a,iss=https://a.example,aud=one", "name=b,iss=https://b.example,aud=one,aud=two"},
		"BOUNDS":    {"age:1h30m", "bytes:1GiB,messages:7"},
		"RULE":      {"a=age:1h30m", "b=bytes:1GiB,messages:7"},
	}
	if pair, ok := byKey[s.Key]; ok {
		return pair[0], pair[1]
	}
	if pair, ok := byValue[s.Value]; ok {
		return pair[0], pair[1]
	}
	words := strings.Split(s.Value, "|")
	if len(words) < 2 {
		t.Fatalf("%s has values of the kind %s, of which this test has no samples", s.Key, s.Value)
	}
	return words[0], words[1]
}

// needs are the settings without which the one called key would be refused.
func needs(key string) map[string]string {
	settings := map[string]string{
		"https": "127.0.0.1:3", "tls-cert": "cert.pem", "tls-key": "key.pem", "redis-url": "rediss://redis.example",
		"devastator-listen": "127.0.0.1:4", "devastator-cert": "d.pem", "devastator-key": "d.key", "ca-dir": "ca",
	}
	if strings.HasPrefix(key, "acme-") {
		delete(settings, "tls-cert")
		delete(settings, "tls-key")
		settings["acme-domain"] = "chat.example"
	}
	return settings
}

// TestPrecedence gives every setting by every combination of sources. The
// strongest wins: with its value, and by its name.
func TestPrecedence(t *testing.T) {
	t.Parallel()
	for _, s := range server.Settings() {
		if s.Instead != "" || s.Secret { // of secrets, see TestSecrets
			continue
		}
		t.Run(s.Key, func(t *testing.T) {
			t.Parallel()
			names := append([]string{s.Env()}, s.Fallbacks...)
			for combination := range 1 << (len(names) + 2) {
				checkPrecedence(t, s, names, combination)
			}
		})
	}
}

// checkPrecedence tries one combination; the bits of it are the flag, the
// variables, and the file, from the strongest.
func checkPrecedence(t *testing.T, s server.Setting, names []string, combination int) {
	t.Helper()
	strong, weak := samples(t, s)
	settings := needs(s.Key)
	delete(settings, s.Key)
	src := server.Sources{Flags: map[string][]string{}}
	winner, value := "", strong
	given := func(bit int, source string) bool {
		if combination&(1<<bit) == 0 {
			return false
		}
		if winner == "" {
			winner = source
		} else {
			value = weak
		}
		return true
	}
	if given(0, "flag --"+s.Flag()) {
		src.Flags[s.Flag()] = []string{value}
	}
	for i, name := range names {
		if given(i+1, "environment "+name) {
			src.Environ = append(src.Environ, name+"="+value)
		}
	}
	fromFile := given(len(names)+1, "file ")
	if fromFile {
		settings[s.Key] = value
	}
	lines := make([]string, 0, len(settings))
	for _, key := range slices.Sorted(maps.Keys(settings)) {
		lines = append(lines, key+": \""+settings[key]+"\"\n")
	}
	src.File = file(t, strings.Join(lines, ""))
	if winner == "" {
		winner, strong = "default", s.Default
		if needs(s.Key)[s.Key] != "" {
			return // it has to be given
		}
	}
	text, err := server.Effective(src)
	if err != nil {
		t.Fatalf("combination %b: %v", combination, err)
	}
	if got, source := lineOf(text, s.Key); got != strong || !strings.HasPrefix(source, winner) {
		t.Errorf("combination %b gives %q from %q, want %q from %q", combination, got, source, strong, winner)
	}
}

// lineOf is the value of a setting in a file of the form that Effective has, and
// what its comment says.
func lineOf(text, key string) (value, source string) {
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, key+": "); ok {
			value, source, _ = strings.Cut(strings.TrimSuffix(rest, "\n"), " # ")
		}
	}
	return strings.Trim(value, `"[]`), source
}

// TestEffectiveIsReadBack: what is printed means the same to Load.
func TestEffectiveIsReadBack(t *testing.T) {
	src := server.Sources{
		Environ: []string{"PARLEY_ALLOW_ORIGIN=https://a.example https://b.example", "GOBBLER_ENV=production"},
		Flags: map[string][]string{
			"retention": {"*=age:1d12h", "a=bytes:1KiB"}, "storage-path": {"-a #b: \"c\"\n\t\u0085'ü {x}, [y] \\"}, "health-endpoint": {""},
			"ws": {"false"}, "kvs": {"memory"}, "log": {"panic"}, "profile": {"mem"},
		},
	}
	want, err := server.Load(src)
	if err != nil {
		t.Fatal(err)
	}
	text, err := server.Effective(src)
	if err != nil {
		t.Fatal(err)
	}
	again := server.Sources{File: file(t, text)}
	got, err := server.Load(again)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	second, err := server.Effective(again)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range server.Settings() {
		a, _ := lineOf(text, s.Key)
		b, from := lineOf(second, s.Key)
		if a != b || s.Instead == "" && !strings.HasPrefix(from, "file "+again.File+" line ") {
			t.Errorf("%s is %q, and read back %q from %s", s.Key, a, b, from)
		}
	}
	if got.Storage != want.Storage || got.Log.Environment != "prod" || !slices.Equal(got.Retention, want.Retention) {
		t.Errorf("read back: %+v, want %+v", got, want)
	}
}

// TestFallbacks: the old variables are weaker than everything but a file, may be
// empty, and count for the old server's settings only.
func TestFallbacks(t *testing.T) {
	for name, tt := range map[string]struct {
		environ []string
		flags   map[string][]string
		key     string
		want    string
	}{
		"real name":           {[]string{"GUBLE_HTTP_LISTEN=127.0.0.1:7"}, nil, "http", "127.0.0.1:7"},
		"documented name":     {[]string{"GOBBLER_HTTP_LISTEN=127.0.0.1:7", "GUBLE_HTTP_LISTEN=127.0.0.1:8"}, nil, "http", "127.0.0.1:7"},
		"empty is not set":    {[]string{"GUBLE_HEALTH_ENDPOINT=", "GOBBLER_LOG="}, nil, "health-endpoint", "/admin/healthcheck"},
		"empty, the next":     {[]string{"GUBLE_LOG=debug", "GOBBLER_LOG="}, nil, "log", "debug"},
		"empty of ours":       {[]string{"GUBLE_HEALTH_ENDPOINT=/h", "PARLEY_HEALTH_ENDPOINT="}, nil, "health-endpoint", ""},
		"only the old ones":   {[]string{"GUBLE_MAX_MESSAGE=2MiB", "GOBBLER_TAIL=none"}, nil, "max-message", "1MiB"},
		"unknown ones":        {[]string{"GUBLE_PORT=tcp://1", "GOBBLER_X=1", "GUBLE_REMOTES=a:1"}, nil, "ms", "file"},
		"overridden":          {[]string{"GUBLE_KVS=postgres", "PARLEY_KVS=file"}, nil, "kvs", "file"},
		"overridden by flag":  {[]string{"GUBLE_MS=none"}, map[string][]string{"ms": {"memory"}}, "ms", "memory"},
		"a part switched off": {[]string{"GUBLE_FCM=false", "GUBLE_NODE_ID=0", "GOBBLER_KAFKA_BROKERS="}, nil, "ws", "true"},
		"off by a flag":       {[]string{"GUBLE_FCM=true"}, map[string][]string{"fcm": {"false"}}, "ws", "true"},
		"the first counts":    {[]string{"PARLEY_LOG=warn", "PARLEY_LOG=debug"}, nil, "log", "warn"},
		"level by its name":   {[]string{"GUBLE_LOG=fatal"}, nil, "log", "error"},
		"warning":             {[]string{"GUBLE_LOG=warning"}, nil, "log", "warn"},
		"long environment":    {[]string{"GOBBLER_ENV=preproduction"}, nil, "env", "pre"},
	} {
		t.Run(name, func(t *testing.T) {
			text, err := server.Effective(server.Sources{Environ: tt.environ, Flags: tt.flags})
			if err != nil {
				t.Fatal(err)
			}
			if got, from := lineOf(text, tt.key); got != tt.want {
				t.Errorf("%s is %q from %s, want %q", tt.key, got, from, tt.want)
			}
		})
	}
}

// TestAbsentParts gives every setting of the Gobbler server that does not exist
// here a value, from every source: it says what to use instead, and never the
// value.
func TestAbsentParts(t *testing.T) {
	const secret = "hunter2"
	number := 0
	for _, s := range server.Settings() {
		if s.Instead == "" {
			continue
		}
		number++
		sources := map[string]server.Sources{
			"flag --" + s.Flag(): {Flags: map[string][]string{s.Flag(): {secret}}},
			"file ":              {File: file(t, s.Key+": "+secret)},
		}
		for _, name := range append([]string{s.Env()}, s.Fallbacks...) {
			sources["environment "+name] = server.Sources{Environ: []string{name + "=" + secret}}
		}
		if len(sources) != 5 {
			t.Errorf("%s has %d sources, want 5", s.Key, len(sources))
		}
		for source, src := range sources {
			_, err := server.Load(src)
			if err == nil || !strings.Contains(err.Error(), source) || !strings.Contains(err.Error(), s.Instead) {
				t.Errorf("%s from %s is answered by %v", s.Key, source, err)
			}
			if err != nil && strings.Contains(err.Error(), secret) {
				t.Errorf("the value of %s from %s is shown: %v", s.Key, source, err)
			}
		}
		for _, value := range []string{"", "false", "0"} {
			if _, err := server.Load(server.Sources{Flags: map[string][]string{s.Flag(): {value}}}); err != nil {
				t.Errorf("%s=%q is refused: %v", s.Key, value, err)
			}
		}
	}
	if number != 32 {
		t.Errorf("%d settings say what to use instead, want 32", number)
	}
}
