package server

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"

	"github.com/parley-im/parley"
)

// Sources are what a configuration is read from. A later source wins: the
// defaults, the file, the environment (GUBLE_, GOBBLER_, PARLEY_), the flags.
type Sources struct {
	// File is the path of a YAML file, or empty.
	File string
	// Environ holds KEY=value, as os.Environ does.
	Environ []string
	// Flags holds the values given for each setting's flag.
	Flags map[string][]string
}

// Fault is one thing that is wrong with a configuration.
type Fault struct {
	// Key is the setting, or empty when the fault belongs to none.
	Key string
	// Source says where the value comes from: a flag, an environment variable,
	// or a file and line. It is empty for a Config made by a program.
	Source string
	// Problem says what is wrong, and what is allowed.
	Problem string
}

func (f Fault) String() string {
	switch {
	case f.Source != "":
		return f.Source + ": " + f.Problem
	case f.Key != "":
		return f.Key + ": " + f.Problem
	}
	return f.Problem
}

// ConfigError is everything that is wrong with a configuration. It wraps
// parley.ErrInvalid.
type ConfigError struct{ Faults []Fault }

func (e *ConfigError) Error() string {
	if len(e.Faults) == 1 {
		return "configuration: " + e.Faults[0].String()
	}
	lines := []string{fmt.Sprintf("configuration has %d faults:", len(e.Faults))}
	for _, f := range e.Faults {
		lines = append(lines, "  "+f.String())
	}
	return strings.Join(lines, "\n")
}

func (e *ConfigError) Unwrap() error { return parley.ErrInvalid }

// given is what one source says about one setting.
type given struct {
	source string
	values []string
}

// loader collects what sources say and what is wrong with it.
type loader struct {
	settings []Setting
	config   Config
	// last holds, by key, what the strongest source so far says.
	last   map[string]given
	faults []Fault
}

// Load reads a configuration and checks it. The error is a *ConfigError that
// lists all faults of all sources.
func Load(src Sources) (Config, error) {
	l, err := load(Settings(), src)
	if err != nil {
		return Config{}, err
	}
	return l.config, nil
}

// CheckSources reads a configuration as [Load] does, and the files that it names
// as [New] does; it touches neither the store nor the network. The error wraps
// parley.ErrInvalid.
func CheckSources(src Sources) error {
	cfg, err := Load(src)
	if err != nil {
		return err
	}
	return errors.Join(cfg.checkCertificates(), cfg.checkRoots(), cfg.checkAuth())
}

// checkCertificates reads the certificates of the listeners, each once.
func (c *Config) checkCertificates() error {
	files := make(map[[2]string]bool)
	if t := &c.HTTP.TLS; t.Listen != "" && t.Cert != "" {
		files[[2]string{t.Cert, t.Key}] = true
	}
	if t := &c.Titan; t.Devastator != "" {
		cert, key := t.certificate(&c.HTTP.TLS)
		files[[2]string{cert, key}] = true
	}
	var errs []error
	for f := range files {
		_, err := openCertificate(TLS{Cert: f[0], Key: f[1]}, slog.New(slog.DiscardHandler))
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// checkRoots reads the certificates by which other servers are trusted.
func (c *Config) checkRoots() error {
	var errs []error
	for key, name := range map[string]string{"acme-ca": c.HTTP.TLS.ACME.CA, "redis-ca": c.Texto.Redis.CA} {
		if name != "" {
			_, err := readRoots(key, name)
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// load reads all sources of some settings, the weakest first.
func load(settings []Setting, src Sources) (*loader, error) {
	l := &loader{settings: settings, config: Default(), last: make(map[string]given)}
	l.file(src.File)
	l.environ(src)
	l.flags(src.Flags)
	for _, f := range l.config.faults() {
		if g, ok := l.last[f.Key]; ok {
			f.Source = g.source
		}
		l.faults = append(l.faults, f)
	}
	if len(l.faults) > 0 {
		return nil, &ConfigError{Faults: l.faults}
	}
	return l, nil
}

// errHidden is a secret that Effective has hidden.
var errHidden = errors.New("stands for a secret that was hidden")

// apply sets one setting from one source. Weaker sources are parsed too, so
// that a fault in a file shows even where a flag overrides it.
func (l *loader) apply(s Setting, g given) {
	errs := s.set(&l.config, g.values)
	if s.Secret && slices.Contains(g.values, hidden) {
		errs = []error{errHidden}
	}
	for _, err := range errs {
		l.faults = append(l.faults, Fault{Key: s.Key, Source: g.source, Problem: s.problem(err)})
	}
	if len(errs) == 0 {
		l.last[s.Key] = g
	}
}

// flags applies the flags, in the order of the table.
func (l *loader) flags(flags map[string][]string) {
	for _, s := range l.settings {
		values, ok := flags[s.Flag()]
		if !ok {
			continue
		}
		if !s.Repeatable {
			values = values[len(values)-1:]
		}
		source := "flag --" + s.Flag()
		if s.Secret && s.Instead == "" {
			l.faults = append(l.faults, Fault{Key: s.Key, Source: source, Problem: "everybody on this machine sees a command line, " +
				"so it may hold no secret; allowed: " + s.Env() + " in the environment, or the file"})
			continue
		}
		l.apply(s, given{source: source, values: values})
	}
}

// environ applies the environment and refuses variables that mean nothing. Of a
// variable that is there twice the first counts, as for everybody.
func (l *loader) environ(src Sources) {
	env := make(map[string]string)
	for _, entry := range src.Environ {
		name, value, _ := strings.Cut(entry, "=")
		if _, twice := env[name]; !twice {
			env[name] = value
		}
	}
	known := make(map[string]bool)
	for _, s := range l.settings {
		known[s.Env()] = true
		_, flag := src.Flags[s.Flag()]
		name, found := s.variable(env, !flag)
		if !found {
			continue
		}
		values := []string{env[name]}
		if s.Repeatable {
			values = strings.Fields(env[name])
		}
		l.apply(s, given{source: "environment " + name, values: values})
	}
	for _, name := range slices.Sorted(maps.Keys(env)) {
		if strings.HasPrefix(name, envPrefix) && !known[name] && !othersVariable(name) {
			l.faults = append(l.faults, Fault{Source: "environment " + name, Problem: "no such setting" + l.meant(name)})
		}
	}
}

// variable is the name of the variable that gives the setting. Those of the
// Gobbler server come last, and with old false do not count: they are not even
// looked at when something stronger gives the setting, for whoever overrides one
// may leave it to that server. Empty they are not set.
func (s Setting) variable(env map[string]string, old bool) (string, bool) {
	if _, ok := env[s.Env()]; ok {
		return s.Env(), true
	}
	for _, name := range s.Fallbacks {
		if old && env[name] != "" {
			return name, true
		}
	}
	return "", false
}

// meant says what a variable that does not exist may have meant.
func (l *loader) meant(name string) string {
	for _, s := range l.settings {
		for _, old := range s.Fallbacks {
			if strings.HasSuffix(old, "_"+strings.TrimPrefix(name, envPrefix)) {
				return "; it is " + s.Env()
			}
		}
	}
	return "; \"parley serve --help\" lists them"
}

// othersVariable reports whether a variable is not for the server although its
// name begins like one: the clients' and the tests' own, and those that
// Kubernetes gives every container for a service named parley.
func othersVariable(name string) bool {
	switch name {
	case envPrefix + "URL", envPrefix + "TOKEN", envPrefix + "API_KEY", envPrefix + "USER", envPrefix + "DEVICE", envPrefix + "CONFIG", envPrefix + "SOAK", envPrefix + "PORT":
		return true
	}
	for _, prefix := range []string{"TEST_", "SERVICE_", "PORT_"} {
		if strings.HasPrefix(name, envPrefix+prefix) {
			return true
		}
	}
	return false
}
