package wire_test

import (
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parley-im/parley/internal/wire"
)

func TestPipe(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a, b := wire.Pipe()
		var session sync.WaitGroup
		session.Go(func() { endedWith(t, echo(b), 1001, "that is all") })
		roundTrip(t, a)
		if a.Name() != b.Name() || a.Remote() == nil {
			t.Error("the ends differ")
		}
		if err := a.Close(wire.CloseGoingAway, "that is all"); err != nil {
			t.Error(err)
		}
		session.Wait()
		if err := a.Close(wire.CloseNormal, "again"); err != nil {
			t.Error(err)
		}
		_, err := a.Read()
		endedWith(t, err, 1001, "that is all")
		endedWith(t, a.Write([]byte{1}), 1001, "that is all")
	})
}

// TestPipeClosed: what was written before Close still arrives, then the reason.
func TestPipeClosed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a, b := wire.Pipe()
		if err := a.Write(a.AppendFrame(nil, true, []byte("last words"))); err != nil {
			t.Fatal(err)
		}
		a.Close(4000, "left")
		frames, err := b.Read()
		if err != nil || len(frames) != 1 || string(frames[0].Payload) != "last words" || !frames[0].Text {
			t.Errorf("got %v, %v", frames, err)
		}
		_, err = b.Read()
		endedWith(t, err, 4000, "left")
		endedWith(t, b.Write([]byte{1}), 4000, "left")
	})
}

// TestPipeFull: a pipe holds 64 KiB, waits for a reader that makes progress, and
// gives up on one that makes none. Close unblocks who waits.
func TestPipeFull(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a, b := wire.Pipe()
		frame := a.AppendFrame(nil, false, make([]byte, 1000))
		begun := time.Now()
		n := 0
		var err error
		for ; err == nil; n++ {
			err = a.Write(frame)
		}
		if !errors.Is(err, wire.ErrSlow) || time.Since(begun) != 20*time.Second {
			t.Errorf("got %v after %v, want ErrSlow after 20 s", err, time.Since(begun))
		}
		if most := wire.PipeBytes/len(frame) + 1; n != most {
			t.Errorf("%d frames written, want %d", n, most)
		}

		var writer sync.WaitGroup
		writer.Go(func() { endedWith(t, a.Write(make([]byte, 3*wire.PipeBytes)), 1000, "enough") })
		for range 2 {
			time.Sleep(15 * time.Second)
			if _, err := b.Read(); err != nil {
				t.Error(err)
			}
		}
		synctest.Wait()
		b.Close(wire.CloseNormal, "enough")
		writer.Wait()
	})
}
