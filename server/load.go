package server

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/parley-im/parley"
)

// Sources are what a configuration is read from. A later source wins: the
// defaults, the file, the environment, the flags.
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
	// last holds, by key, what the strongest source so far says.
	last   map[string]given
	faults []Fault
}

// Load reads a configuration and checks it. The error is a *ConfigError that
// lists all faults of all sources.
func Load(src Sources) (Config, error) {
	l := &loader{settings: Settings(), last: make(map[string]given)}
	c := Default()
	l.file(&c, src.File)
	l.environ(&c, src.Environ)
	l.flags(&c, src.Flags)
	for _, f := range c.faults() {
		if g, ok := l.last[f.Key]; ok {
			f.Source = g.source
		}
		l.faults = append(l.faults, f)
	}
	if len(l.faults) > 0 {
		return Config{}, &ConfigError{Faults: l.faults}
	}
	return c, nil
}

// apply sets one setting from one source. Weaker sources are parsed too, so
// that a fault in a file shows even where a flag overrides it.
func (l *loader) apply(c *Config, s Setting, g given) {
	errs := s.set(c, g.values)
	for _, err := range errs {
		l.faults = append(l.faults, Fault{Key: s.Key, Source: g.source, Problem: err.Error()})
	}
	if len(errs) == 0 {
		l.last[s.Key] = g
	}
}

// flags applies the flags, in the order of the table.
func (l *loader) flags(c *Config, flags map[string][]string) {
	for _, s := range l.settings {
		values, ok := flags[s.Flag()]
		if !ok {
			continue
		}
		if !s.Repeatable {
			values = values[len(values)-1:]
		}
		l.apply(c, s, given{source: "flag --" + s.Flag(), values: values})
	}
}

// environ applies the environment and refuses variables that mean nothing.
func (l *loader) environ(c *Config, environ []string) {
	for _, entry := range slices.Sorted(slices.Values(environ)) {
		name, value, _ := strings.Cut(entry, "=")
		if !strings.HasPrefix(name, envPrefix) || othersVariable(name) {
			continue
		}
		source := "environment " + name
		i := slices.IndexFunc(l.settings, func(s Setting) bool { return s.Env() == name })
		if i < 0 {
			l.faults = append(l.faults, Fault{Source: source, Problem: "no such setting; \"parley serve --help\" lists them"})
			continue
		}
		values := []string{value}
		if l.settings[i].Repeatable {
			values = strings.Fields(value)
		}
		l.apply(c, l.settings[i], given{source: source, values: values})
	}
}

// othersVariable reports whether a variable is not for the server although its
// name begins like one: the clients' and the tests' own, and those that
// Kubernetes gives every container for a service named parley.
func othersVariable(name string) bool {
	switch name {
	case envPrefix + "URL", envPrefix + "CONFIG", envPrefix + "SOAK", envPrefix + "PORT":
		return true
	}
	for _, prefix := range []string{"TEST_", "SERVICE_", "PORT_"} {
		if strings.HasPrefix(name, envPrefix+prefix) {
			return true
		}
	}
	return false
}

// file applies a YAML file.
func (l *loader) file(c *Config, name string) {
	if name == "" {
		return
	}
	text, err := os.ReadFile(name) //nolint:gosec // whoever starts the server names the file
	if err != nil {
		l.faults = append(l.faults, Fault{Source: "file " + name, Problem: err.Error()})
		return
	}
	lines, faults := readYAML(name, text, l.settings)
	l.faults = append(l.faults, faults...)
	for _, line := range lines {
		l.apply(c, line.setting, line.given)
	}
}
