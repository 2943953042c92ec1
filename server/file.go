package server

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
)

// maxFile bounds a configuration file, in bytes: far more than all settings are.
const maxFile = 1 << 20

// file applies a YAML file.
func (l *loader) file(name string) {
	if name == "" {
		return
	}
	fault := func(err error) {
		l.faults = append(l.faults, Fault{Source: "file " + name, Problem: err.Error()})
	}
	text, mode, err := readFile(name)
	if err != nil {
		fault(err)
		return
	}
	lines, faults := readYAML(name, text, l.settings)
	l.faults = append(l.faults, faults...)
	for _, line := range lines {
		l.apply(line.setting, line.given)
		const others = 0o007
		if line.setting.Secret && slices.ContainsFunc(line.given.values, notEmpty) && mode&others != 0 {
			fault(fmt.Errorf("holds the secret %s and everybody may open it, its mode is %04o; allowed: 0600 or 0640", line.setting.Key, mode))
		}
	}
}

func notEmpty(value string) bool { return value != "" }

// readFile reads a file of settings and tells who may open it. A pipe is refused:
// a reload would wait on it for ever.
func readFile(name string) ([]byte, os.FileMode, error) {
	before, err := os.Stat(name)
	switch {
	case err != nil:
		return nil, 0, err
	case before.IsDir():
		return nil, 0, errors.New("is a directory")
	case !before.Mode().IsRegular():
		return nil, 0, errors.New("is not a plain file")
	}
	f, err := os.Open(name) //nolint:gosec // whoever starts the server names the file
	if err != nil {
		return nil, 0, err
	}
	defer func() { _ = f.Close() }() // it was only read
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	switch {
	case err != nil:
		return nil, 0, err
	case len(text) > maxFile:
		return nil, 0, fmt.Errorf("is larger than %s", FormatSize(maxFile))
	}
	return text, before.Mode().Perm(), nil
}
