//go:build linux

package image_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/parley-im/parley/test/require"
)

// repository is where the sources are.
const repository = "../.."

// source is a file of the repository.
func source(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(repository, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// maxImage bounds the image, in bytes. The program is nearly all of it: 25 MiB, of
// which the clients of Redis and of certificate authorities are six.
const maxImage = 30 << 20

// TestImage builds the image and runs it.
func TestImage(t *testing.T) {
	s, err := build(t, source(t, "deploy/Dockerfile"), runtime.GOARCH)
	if err != nil {
		t.Fatal(err)
	}
	t.Run("Contents", func(t *testing.T) { checkContents(t, s) })
	t.Run("Reproducible", func(t *testing.T) {
		again, err := build(t, source(t, "deploy/Dockerfile"), runtime.GOARCH)
		if err != nil {
			t.Fatal(err)
		}
		if sum(t, s.root) != sum(t, again.root) {
			t.Error("two builds of the same sources differ")
		}
	})
	t.Run("Run", func(t *testing.T) {
		if os.Getuid() != 0 {
			require.Missing(t, "root", "an image runs in a root of its own")
		}
		runImage(t, s)
	})
	t.Run("Refusals", func(t *testing.T) {
		if os.Getuid() != 0 {
			require.Missing(t, "root", "an image runs in a root of its own")
		}
		refusals(t, s)
	})
}

// TestOtherArchitecture builds the image for the architecture that this machine
// has not, and runs its program where an emulator is installed. It compiles
// everything, the standard library too, so it is one of the long tests.
func TestOtherArchitecture(t *testing.T) {
	if os.Getenv("PARLEY_SOAK") == "" {
		t.Skip("compiles everything once more; PARLEY_SOAK=1 runs it")
	}
	other, emulator := "arm64", "qemu-aarch64-static"
	if runtime.GOARCH == other {
		other, emulator = "amd64", "qemu-x86_64-static"
	}
	s, err := build(t, source(t, "deploy/Dockerfile"), other)
	if err != nil {
		t.Fatal(err)
	}
	checkContents(t, s)
	path := require.Program(t, emulator, emulator)
	out, err := exec.CommandContext(t.Context(), path, filepath.Join(s.root, s.entrypoint[0]), "version").CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("linux/"+other)) {
		t.Errorf("the program for %s says %q (%v)", other, out, err)
	}
}

// checkContents looks at the image's files and settings.
func checkContents(t *testing.T, s *stage) {
	size := int64(0)
	var names []string
	for name, info := range files(t, s.root, "") {
		names = append(names, name)
		size += info.Size()
		if info.Mode()&(fs.ModeSetuid|fs.ModeSetgid) != 0 || info.Mode().Perm()&0o022 != 0 {
			t.Errorf("%s has mode %v", name, info.Mode())
		}
	}
	t.Logf("the image has %.1f MiB in %d files and folders", float64(size)/(1<<20), len(names))
	if size > maxImage {
		t.Errorf("the image has %d bytes, more than %d", size, maxImage)
	}
	if uid, _, _ := owner(s.user); uid == 0 {
		t.Error("the image runs as root")
	}
	store, err := os.Stat(filepath.Join(s.root, s.volume))
	if err != nil || s.volume == "" || store.Mode().Perm() != 0o700 {
		t.Errorf("the volume %q has %v, want a folder of mode 0700 (%v)", s.volume, store, err)
	}
	if s.env["PARLEY_STORAGE_PATH"] != s.volume {
		t.Errorf("the store is at %q, not in the volume %q", s.env["PARLEY_STORAGE_PATH"], s.volume)
	}
	if _, said := s.env["PARLEY_OPEN_TO_NETWORK"]; said {
		t.Error("the image opens the server to the network; that is for whoever runs it to say")
	}
	if s.env["PARLEY_HTTP"] != ":"+s.exposed || s.stopSignal != "SIGTERM" {
		t.Errorf("it listens at %s, exposes %s and stops with %s", s.env["PARLEY_HTTP"], s.exposed, s.stopSignal)
	}
}

// runImage starts the image as an engine does, and restarts it on its volume.
func runImage(t *testing.T, s *stage) {
	compose := readCompose(t)
	env := map[string]string{"PARLEY_HTTP": freeAddress(t)} // not 8080: this machine's network is used
	maps.Copy(env, compose.Environment)
	before := files(t, s.root, s.volume)

	c := s.start(t, env)
	c.healthy(t, env)
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.Process.Pid))
	uid, gid, _ := owner(s.user)
	if want := fmt.Sprintf("\nUid:\t%[1]d\t%[1]d\t%[1]d\t%[1]d\nGid:\t%[2]d\t", uid, gid); err != nil || !strings.Contains(string(status), want) {
		t.Errorf("it does not run as %s: %s (%v)", s.user, status, err)
	}
	at := "http://" + env["PARLEY_HTTP"]
	if out, err := s.command(t, env, "/parley", "pub", "--server", at, "/kept", "one").CombinedOutput(); err != nil {
		t.Fatalf("publish: %v\n%s", err, out)
	}
	c.stop(t)

	again := s.start(t, env)
	again.healthy(t, env)
	out, err := s.command(t, env, "/parley", "history", "--server", at, "/kept").CombinedOutput()
	if err != nil || string(out) != "/kept: one\n" {
		t.Errorf("after a restart the topic holds %q (%v)", out, err)
	}
	again.stop(t)
	if out, err := s.command(t, env, s.health[0], s.health[1:]...).CombinedOutput(); err == nil {
		t.Errorf("a stopped server is healthy: %s", out)
	}

	after := files(t, s.root, s.volume)
	for name, info := range after {
		if old := before[name]; old == nil || !old.ModTime().Equal(info.ModTime()) || old.Size() != info.Size() {
			t.Errorf("it wrote %s, outside its volume", name)
		}
	}
	if len(after) != len(before) {
		t.Errorf("there were %d files and folders, and are %d", len(before), len(after))
	}
}

// refusals are what a container says when it is set up wrongly.
func refusals(t *testing.T, s *stage) {
	for name, test := range map[string]struct {
		prepare func(volume string) error
		env     map[string]string
		code    int
		want    string
	}{
		"not told that it is open": {
			env:  map[string]string{},
			code: 2, want: "in a container PARLEY_OPEN_TO_NETWORK=true",
		},
		"somebody else's volume": {
			prepare: func(volume string) error { return os.Chown(volume, 1234, 1234) },
			env:     map[string]string{"PARLEY_HTTP": "127.0.0.1:0"},
			code:    4, want: "must belong to the user that the server runs as, 65532 here",
		},
		"a read-only volume": {
			prepare: func(volume string) error { return os.Chmod(volume, 0o500) },
			env:     map[string]string{"PARLEY_HTTP": "127.0.0.1:0"},
			code:    4, want: "must belong to the user that the server runs as, 65532 here",
		},
	} {
		t.Run(name, func(t *testing.T) {
			volume := filepath.Join(s.root, s.volume)
			clearVolume(t, s)
			if test.prepare != nil {
				if err := test.prepare(volume); err != nil {
					t.Fatal(err)
				}
			}
			defer clearVolume(t, s)
			c := s.command(t, test.env, s.entrypoint[0], append(s.entrypoint[1:], s.cmd...)...)
			out, _ := c.CombinedOutput()
			if got := c.ProcessState.ExitCode(); got != test.code || !strings.Contains(string(out), test.want) {
				t.Errorf("it exits with %d, want %d, and says\n%s\nwant %q in it", got, test.code, out, test.want)
			}
		})
	}
	// As the image and compose.yaml have it, the configuration is good.
	out, err := s.command(t, readCompose(t).Environment, s.entrypoint[0], "config", "--check").CombinedOutput()
	if err != nil {
		t.Errorf("with compose.yaml's environment: %v\n%s", err, out)
	}
}

// clearVolume makes the volume as it is in the image.
func clearVolume(t *testing.T, s *stage) {
	t.Helper()
	volume := filepath.Join(s.root, s.volume)
	uid, gid, _ := owner(s.user)
	for _, err := range []error{os.RemoveAll(volume), os.Mkdir(volume, 0o700), os.Chown(volume, uid, gid)} {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// composed is what this test needs of the service in compose.yaml.
type composed struct {
	Environment map[string]string `yaml:"environment"`
	Ports       []string          `yaml:"ports"`
	Volumes     []string          `yaml:"volumes"`
	Build       struct {
		Context    string `yaml:"context"`
		Dockerfile string `yaml:"dockerfile"`
	} `yaml:"build"`
}

func readCompose(t *testing.T) composed {
	t.Helper()
	var file struct {
		Services map[string]composed `yaml:"services"`
		Volumes  map[string]any      `yaml:"volumes"`
	}
	if err := yaml.Unmarshal([]byte(source(t, "deploy/compose.yaml")), &file); err != nil {
		t.Fatal(err)
	}
	return file.Services["parley"]
}

// TestCompose says that nobody but this machine reaches what it starts.
func TestCompose(t *testing.T) {
	t.Parallel()
	c := readCompose(t)
	for _, port := range c.Ports {
		if !strings.HasPrefix(port, "127.0.0.1:") {
			t.Errorf("port %s is published beyond this machine, and there is no authentication", port)
		}
	}
	dockerfile := filepath.Join(repository, "deploy", c.Build.Context, c.Build.Dockerfile)
	if _, err := os.Stat(dockerfile); err != nil || len(c.Ports) == 0 {
		t.Errorf("compose.yaml has ports %v and builds from %s (%v)", c.Ports, dockerfile, err)
	}
	if len(c.Volumes) != 1 || !strings.HasSuffix(c.Volumes[0], ":/var/lib/parley") {
		t.Errorf("compose.yaml mounts %v, want the image's volume", c.Volumes)
	}
}

// command is one in the image, as its user, with its environment and more.
func (s *stage) command(t *testing.T, env map[string]string, name string, args ...string) *exec.Cmd {
	t.Helper()
	uid, gid, err := owner(s.user)
	if err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(t.Context(), name, args...)
	c.Dir, c.Env = "/", []string{}
	for _, values := range []map[string]string{s.env, env} { // of two values the later counts
		for key, value := range values {
			c.Env = append(c.Env, key+"="+value)
		}
	}
	c.SysProcAttr = &syscall.SysProcAttr{Chroot: s.root, Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	return c
}

// container is the image at work.
type container struct {
	*exec.Cmd
	s   *stage
	log *bytes.Buffer
}

func (s *stage) start(t *testing.T, env map[string]string) *container {
	t.Helper()
	c := &container{s.command(t, env, s.entrypoint[0], append(s.entrypoint[1:], s.cmd...)...), s, new(bytes.Buffer)}
	c.Stdout, c.Stderr = c.log, c.log
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	return c
}

// healthy waits until the image's health check says so.
func (c *container) healthy(t *testing.T, env map[string]string) {
	t.Helper()
	var out []byte
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); <-time.After(50 * time.Millisecond) {
		var err error
		if out, err = c.s.command(t, env, c.s.health[0], c.s.health[1:]...).CombinedOutput(); err == nil {
			return
		}
	}
	_ = c.Process.Kill()
	_ = c.Wait()
	t.Fatalf("it does not become healthy: %s\n%s", out, c.log)
}

// stop sends the image's signal and expects a clean end within the drain time.
func (c *container) stop(t *testing.T) {
	t.Helper()
	const drain = 10 * time.Second
	late := time.AfterFunc(drain+2*time.Second, func() { _ = c.Process.Kill() })
	defer late.Stop()
	if err := c.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := c.Wait(); err != nil {
		t.Fatalf("it ends with %v\n%s", err, c.log)
	}
}

// files are all below root but what is in the volume.
func files(t *testing.T, root, volume string) map[string]fs.FileInfo {
	t.Helper()
	found := make(map[string]fs.FileInfo)
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if volume != "" && path == filepath.Join(root, volume) {
			return fs.SkipDir
		}
		info, err := d.Info()
		found[strings.TrimPrefix(path, root)] = info
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// sum is a checksum of all files below root, with their names and modes.
func sum(t *testing.T, root string) string {
	t.Helper()
	h := sha256.New()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		fmt.Fprintln(h, strings.TrimPrefix(path, root), info.Mode())
		if !info.Mode().IsRegular() {
			return nil
		}
		text, err := os.ReadFile(path)
		h.Write(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", h.Sum(nil))
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
