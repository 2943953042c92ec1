package people_test

import (
	"context"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/parley-im/parley/test/tcpproxy"
)

// back is within what all devices must have resumed, however many they are.
const back = 15 * time.Second

// TestReconnectStorm (R15): many devices, with tokens of an issuer whose key the
// server fetches, lose their connections at once while letters are sent all the
// time. All come back; each gets every letter of its user, in order, and nobody
// else's; what was confirmed does not come again. The key is not fetched again for
// that, and who was connected in another way notices nothing. Then the server is
// killed, and is not given the key before half of them stand at its door: that
// costs one request to the issuer. With PARLEY_SOAK=1 there are 5,000.
func TestReconnectStorm(t *testing.T) {
	t.Parallel()
	devices := 300
	switch {
	case os.Getenv("PARLEY_SOAK") == "1":
		devices = 5000
	case testing.Short():
		devices = 100
	}
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	id := newIssuer(t)
	s := newServer(t, id.args()...)
	proxy := tcpproxy.Start(t, s.address)
	w := newWeather(t, id, devices)

	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	for _, v := range w.victims {
		running.Go(func() { v.stay(ctx, proxy.Addr()) })
	}
	running.Go(func() { w.bystander.stay(ctx, s.address) })
	enough := make(chan struct{})
	var sending sync.WaitGroup
	sending.Go(func() { w.send(ctx, s, id.token("bob"), enough) })
	w.reach(ctx, "all have come", 0)

	began := time.Now()
	proxy.Shut()
	cut := w.next.Load()
	proxy.Open()
	w.reach(ctx, "all have resumed after the cut", cut)
	w.expectWithin(began, "the cut")
	w.expectUnaffected()
	if n := id.fetches.Load(); n != 1 {
		t.Errorf("the key was fetched %d times, not once", n)
	}

	door := proxy.Accepted() + int64(devices)/2
	id.await(func() bool { return proxy.Accepted() >= door })
	began = time.Now()
	s.kill()
	cut = w.next.Load()
	s.start(id.args()...)
	w.reach(ctx, "all have resumed after the kill", cut)
	w.expectWithin(began, "the kill")
	if n := id.fetches.Load(); n != 2 {
		t.Errorf("after the kill the key was fetched %d times, not once", n-1)
	}

	close(enough)
	sending.Wait()
	w.reach(ctx, "all have everything", w.next.Load()-int64(w.groups))
	cancel()
	running.Wait()
	w.check()
}
