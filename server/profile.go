package server

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/pprof"
	"time"
)

// profile collects a profile of the whole run, for "go tool pprof".
type profile struct {
	kind string
	file *os.File
}

// startProfile makes the file, so that a directory that cannot be written to
// shows at the start and not at the end, and begins to collect.
func startProfile(kind string) (*profile, error) {
	name := "parley-" + kind + "-" + time.Now().UTC().Format("20060102-150405.000") + ".pprof"
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600) //nolint:gosec // the name is made here
	if err != nil {
		return nil, fmt.Errorf("server: cannot write a profile to the working directory: %w", err)
	}
	p := &profile{kind: kind, file: f}
	switch kind {
	case ProfileCPU:
		if err := pprof.StartCPUProfile(f); err != nil { // one is being collected
			return nil, errors.Join(fmt.Errorf("server: %w", err), f.Close(), os.Remove(name))
		}
	case ProfileBlock:
		runtime.SetBlockProfileRate(1)
	}
	return p, nil
}

// stop writes the profile.
func (p *profile) stop() error {
	var err error
	switch p.kind {
	case ProfileCPU:
		pprof.StopCPUProfile()
	case ProfileBlock:
		err = pprof.Lookup("block").WriteTo(p.file, 0)
		runtime.SetBlockProfileRate(0)
	case ProfileMemory:
		runtime.GC() // what is reported is as of the last collection
		err = pprof.Lookup("heap").WriteTo(p.file, 0)
	}
	if err := errors.Join(err, p.file.Close()); err != nil {
		return fmt.Errorf("cannot write %s: %w", p.file.Name(), err)
	}
	return nil
}

// finishProfile writes the profile and says where it is.
func (s *Server) finishProfile(ctx context.Context) error {
	err := s.profile.stop()
	if err == nil {
		s.logger.InfoContext(ctx, "profile written", "file", s.profile.file.Name())
	}
	return err
}
