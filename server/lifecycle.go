package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"
)

// stack is what must be undone to stop, the latest first: what was started last
// stands on what was started before it.
type stack []step

type step struct {
	name string
	fn   func(context.Context) error
}

func (s *stack) push(name string, fn func(context.Context) error) {
	*s = append(*s, step{name, fn})
}

// unwind does all steps under one deadline, that of ctx. When a step does not
// finish in time those below it are left undone, because something still stands
// on them; that is safe, since nothing is acknowledged before it is on disk.
func (s *stack) unwind(ctx context.Context, logger *slog.Logger) error {
	var errs []error
	for _, step := range slices.Backward(*s) {
		began := time.Now()
		err := step.fn(ctx)
		logger.DebugContext(ctx, "stopping", "step", step.name, "seconds", time.Since(began).Seconds(), "error", err)
		if err == nil {
			continue
		}
		errs = append(errs, fmt.Errorf("%s: %w", step.name, err))
		if errors.Is(err, context.DeadlineExceeded) {
			break
		}
	}
	return errors.Join(errs...)
}
