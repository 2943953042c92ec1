package server

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// envPrefix begins the name of every environment variable of the server.
const envPrefix = "PARLEY_"

// oldPrefixes begin the names of the variables that the Gobbler server had, the
// stronger first: those that it documented, and those that it read.
func oldPrefixes() []string { return []string{"GOBBLER_", "GUBLE_"} }

// Setting is one thing that a flag, an environment variable or a line of the
// configuration file can set.
type Setting struct {
	// Key is its name in the file; the flag and the variable derive from it.
	Key string
	// Usage is one phrase that says what it does.
	Usage string
	// Value names what its value is, such as SIZE, in the help.
	Value string
	// Allowed says which values are accepted.
	Allowed string
	// Default is the value that it has when nobody sets it, as text; the values
	// of a list stand with spaces between them.
	Default string
	// Repeatable says that it is a list: its flag may be repeated, its variable
	// holds values separated by spaces, and the file a sequence.
	Repeatable bool
	// Switch says that its flag needs no value, and that there is another one
	// with no- before its name.
	Switch bool
	// Secret says that its value is never shown, and that no flag may give it:
	// everybody on the machine sees a command line.
	Secret bool
	// Group is the heading under which help and documentation list it.
	Group string
	// Fallbacks are the variables of the Gobbler server that are read when
	// nothing stronger gives the setting, the strongest first. An empty one
	// counts as not set, as it did there.
	Fallbacks []string
	// Reloaded says that Server.Reload applies it without a restart.
	Reloaded bool
	// Instead is for a setting of the Gobbler server that this one does not
	// have: what to use instead. Only a value that switches it off is accepted.
	Instead string

	// set parses values, of which there is one unless the setting is
	// Repeatable, and returns every fault that it finds.
	set func(c *Config, values []string) []error
	// check finds the faults of what c holds, which a program may have set.
	check func(c *Config) []error
	// get returns what c holds as set reads it.
	get func(c *Config) []string
	// copy sets in to what from holds.
	copy func(to, from *Config)
}

// Flag is the setting's name on the command line, without its dashes.
func (s Setting) Flag() string { return s.Key }

// Env is the setting's name in the environment.
func (s Setting) Env() string { return envPrefix + envName(s.Key) }

// envName is a key as variables write it.
func envName(key string) string { return strings.ToUpper(strings.ReplaceAll(key, "-", "_")) }

// kind is a kind of value: how it is read and written as text.
type kind[T any] struct {
	value   string // as Setting.Value
	allowed string // as Setting.Allowed
	parse   func(string) (T, error)
	format  func(T) string
}

// one is a setting with a single value, kept in the field that field points
// to.
func one[T any](key, usage string, k kind[T], field func(*Config) *T) Setting {
	c := Default()
	return Setting{
		Key: key, Usage: usage, Value: k.value, Allowed: k.allowed, Default: k.format(*field(&c)),
		set: func(c *Config, values []string) []error {
			v, err := k.parse(values[0])
			if err != nil {
				return []error{fault(values[0], err, k.allowed)}
			}
			*field(c) = v
			return nil
		},
		check: func(c *Config) []error { return k.check([]T{*field(c)}) },
		get:   func(c *Config) []string { return []string{k.format(*field(c))} },
		copy:  func(to, from *Config) { *field(to) = *field(from) },
	}
}

// list is a setting with any number of values. What a source gives replaces
// the whole list of a weaker source.
func list[T any](key, usage string, k kind[T], field func(*Config) *[]T) Setting {
	c := Default()
	var defaults []string
	for _, v := range *field(&c) {
		defaults = append(defaults, k.format(v))
	}
	return Setting{
		Key: key, Usage: usage, Value: k.value, Allowed: k.allowed, Repeatable: true, Default: strings.Join(defaults, " "),
		set: func(c *Config, values []string) []error {
			var errs []error
			var parsed []T
			for _, text := range values {
				v, err := k.parse(text)
				if err != nil {
					errs = append(errs, fault(text, err, k.allowed))
					continue
				}
				parsed = append(parsed, v)
			}
			*field(c) = parsed
			return errs
		},
		check: func(c *Config) []error { return k.check(*field(c)) },
		get: func(c *Config) []string {
			texts := make([]string, len(*field(c)))
			for i, v := range *field(c) {
				texts[i] = k.format(v)
			}
			return texts
		},
		copy: func(to, from *Config) { *field(to) = slices.Clone(*field(from)) },
	}
}

// check finds the faults of values that were not parsed from text.
func (k kind[T]) check(values []T) []error {
	var errs []error
	for _, v := range values {
		text := k.format(v)
		if _, err := k.parse(text); err != nil {
			errs = append(errs, fault(text, err, k.allowed))
		}
	}
	return errs
}

// fault says what is wrong with a value and what would be right.
func fault(value string, err error, allowed string) error {
	const longest = 200 // it may quote a part of the value
	if text := err.Error(); len(text) > longest {
		err = errors.New(strings.ToValidUTF8(text[:longest], "") + "…")
	}
	shown := quote(value)
	if errors.Is(err, errUnshown) {
		shown = "the value"
	}
	return fmt.Errorf("%s %w; allowed: %s", shown, err, allowed)
}

// errUnshown is a fault of a value that must not be repeated.
var errUnshown = errors.New("it is not shown here either")

// problem is what to say about a fault of s, which may quote the value: of a
// secret it says nothing but what is allowed.
func (s Setting) problem(err error) string {
	if s.Secret && s.Instead == "" && !errors.Is(err, errHidden) {
		return "is not allowed; allowed: " + s.Allowed
	}
	return err.Error()
}

// quote quotes a value for an error; a long one is cut, for nobody reads a
// megabyte.
func quote(value string) string {
	const longest = 100
	if len(value) > longest {
		return fmt.Sprintf("%.*q… (%d bytes)", longest, value, len(value))
	}
	return fmt.Sprintf("%q", value)
}

// find returns the setting with that key.
func find(settings []Setting, key string) (Setting, bool) {
	i := slices.IndexFunc(settings, func(s Setting) bool { return s.Key == key })
	if i < 0 {
		return Setting{}, false
	}
	return settings[i], true
}
