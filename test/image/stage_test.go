//go:build linux

package image_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// stage is a file system in the making, and what its image says about running.
type stage struct {
	root string
	// scratch says that nothing is in it but what was copied; otherwise it
	// stands on an image of the Go toolchain, which is this machine's.
	scratch bool
	workdir string
	args    map[string]string // of ARG
	env     map[string]string // of ENV

	user       string
	volume     string
	exposed    string
	stopSignal string
	health     []string
	entrypoint []string
	cmd        []string
}

// builder does what a Dockerfile says.
type builder struct {
	t       *testing.T
	arch    string
	globals map[string]string // of ARG before the first FROM
	named   map[string]*stage
	now     *stage
}

// build builds the last stage for linux on arch. The root's files belong to whom
// they should only where this test runs as root.
func build(t *testing.T, dockerfile, arch string) (*stage, error) {
	t.Helper()
	b := &builder{t: t, arch: arch, globals: make(map[string]string), named: make(map[string]*stage)}
	for _, in := range parseDockerfile(dockerfile) {
		if err := b.do(in); err != nil {
			return nil, err
		}
	}
	return b.now, nil
}

func (b *builder) do(in instruction) error {
	if in.name == "FROM" {
		return b.from(in)
	}
	if b.now == nil {
		if in.name != "ARG" {
			return fmt.Errorf("%s before FROM", in.name)
		}
		key, value, _ := strings.Cut(in.args, "=")
		b.globals[key] = value
		return in.only()
	}
	switch in.name {
	case "COPY":
		return b.copy(in)
	case "RUN":
		return b.run(in)
	case "HEALTHCHECK":
		return b.healthcheck(in)
	}
	if err := in.only(); err != nil {
		return err
	}
	return b.setting(in)
}

// from begins a stage.
func (b *builder) from(in instruction) error {
	if err := in.only("--platform"); err != nil {
		return err
	}
	image, name, _ := strings.Cut(expand(in.args, b.globals), " AS ")
	if image != "scratch" && !strings.HasPrefix(image, "golang:") {
		return fmt.Errorf("FROM %s: only the Go toolchain is here", image)
	}
	b.now = &stage{
		root: b.t.TempDir(), scratch: image == "scratch", workdir: "/",
		args: make(map[string]string), env: make(map[string]string),
	}
	b.named[name] = b.now
	return nil
}

// setting does what only sets something.
func (b *builder) setting(in instruction) error {
	var err error
	switch s := b.now; in.name {
	case "ARG":
		given := map[string]string{"TARGETOS": "linux", "TARGETARCH": b.arch}
		value, ok := given[in.args]
		if !ok {
			return fmt.Errorf("ARG %s is not given", in.args)
		}
		s.args[in.args] = value
	case "ENV":
		for pair := range strings.FieldsSeq(in.args) {
			key, value, ok := strings.Cut(pair, "=")
			if !ok {
				return fmt.Errorf("ENV %s has no value", pair)
			}
			s.env[key] = value
		}
	case "WORKDIR":
		s.workdir = in.args
		err = os.MkdirAll(filepath.Join(s.root, s.workdir), 0o755)
	case "USER":
		s.user = in.args
		_, _, err = owner(in.args)
	case "VOLUME":
		s.volume = in.args
	case "EXPOSE":
		s.exposed = in.args
	case "STOPSIGNAL":
		s.stopSignal = in.args
	case "ENTRYPOINT":
		s.entrypoint, err = in.list()
	case "CMD":
		s.cmd, err = in.list()
	default:
		return fmt.Errorf("%s is not understood", in.name)
	}
	return err
}

// healthcheck takes only the form that needs no shell: there is none.
func (b *builder) healthcheck(in instruction) error {
	if err := in.only("--interval", "--timeout", "--start-period", "--retries"); err != nil {
		return err
	}
	words, ok := strings.CutPrefix(in.args, "CMD ")
	if !ok {
		return fmt.Errorf("HEALTHCHECK %s has no CMD", in.args)
	}
	var err error
	b.now.health, err = instruction{name: in.name, args: words}.list()
	return err
}

// run runs a shell's line in the working directory. The stage is only a folder
// here, so that a line may name nothing outside.
func (b *builder) run(in instruction) error {
	if err := in.only(); err != nil {
		return err
	}
	if b.now.scratch {
		return errors.New("RUN where there is no shell")
	}
	if strings.Contains(in.args, " /") {
		return fmt.Errorf("RUN %s names a place outside the working directory", in.args)
	}
	c := exec.CommandContext(b.t.Context(), "sh", "-e", "-c", in.args)
	c.Dir = filepath.Join(b.now.root, b.now.workdir)
	c.Env = os.Environ()
	for key, value := range b.now.args {
		c.Env = append(c.Env, key+"="+value)
	}
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("RUN %s: %w\n%s", in.args, err, out)
	}
	return nil
}

// copy copies from the sources or from a stage.
func (b *builder) copy(in instruction) error {
	if err := in.only("--from", "--chown"); err != nil {
		return err
	}
	words := strings.Fields(in.args)
	if len(words) < 2 {
		return fmt.Errorf("COPY %s", in.args)
	}
	sources, to := words[:len(words)-1], words[len(words)-1]
	target := filepath.Join(b.now.root, to)
	if !filepath.IsAbs(to) {
		target = filepath.Join(b.now.root, b.now.workdir, to)
	}
	uid, gid, err := owner(in.flags["--chown"])
	if err != nil {
		return err
	}
	skip := func(string) bool { return false }
	root := repository
	if name, ok := in.flags["--from"]; ok {
		s := b.named[name]
		if s == nil {
			return fmt.Errorf("COPY --from=%s: no such stage", name)
		}
		root = s.root
	} else if skip, err = ignored(source(b.t, ".dockerignore")); err != nil {
		return err
	}
	for _, from := range sources {
		path := filepath.Join(root, from)
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) && in.flags["--from"] != "" {
			path = from // of the toolchain's image
		}
		if err := copyTree(path, target, strings.HasSuffix(to, "/"), skip, [2]int{uid, gid}); err != nil {
			return fmt.Errorf("COPY %s: %w", in.args, err)
		}
	}
	return nil
}

// copyTree copies a file, or what is in a folder. A new folder is as the one
// that it is copied from.
func copyTree(from, to string, into bool, skip func(string) bool, own [2]int) error {
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		if into {
			to = filepath.Join(to, filepath.Base(from))
		}
		return copyFile(from, to, own)
	}
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		below, err := filepath.Rel(from, path)
		switch {
		case err != nil:
			return err
		case below != "." && skip(filepath.ToSlash(below)) && d.IsDir():
			return fs.SkipDir
		case below != "." && skip(filepath.ToSlash(below)):
			return nil
		case d.IsDir():
			return copyDir(path, filepath.Join(to, below), own)
		case !d.Type().IsRegular():
			return nil
		}
		return copyFile(path, filepath.Join(to, below), own)
	})
}

func copyDir(from, to string, own [2]int) error {
	if _, err := os.Stat(to); err == nil {
		return nil
	}
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	return errors.Join(os.Chmod(to, info.Mode().Perm()), chown(to, own))
}

func copyFile(from, to string, own [2]int) error {
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	bytes, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(to, bytes, info.Mode().Perm()); err != nil {
		return err
	}
	return errors.Join(os.Chmod(to, info.Mode().Perm()), chown(to, own))
}

func chown(path string, own [2]int) error {
	if os.Getuid() != 0 {
		return nil
	}
	return os.Chown(path, own[0], own[1])
}

// owner reads UID:GID; empty is root. Names would need a file to look them up.
func owner(s string) (uid, gid int, err error) {
	if s == "" {
		return 0, 0, nil
	}
	user, group, _ := strings.Cut(s, ":")
	if uid, err = strconv.Atoi(user); err != nil {
		return 0, 0, fmt.Errorf("the user %s is no number", s)
	}
	if gid, err = strconv.Atoi(group); err != nil {
		return 0, 0, fmt.Errorf("the group of %s is no number", s)
	}
	return uid, gid, nil
}
