package client_test

import (
	"fmt"
	"testing"
	"sync"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/client"
	"github.com/parley-im/parley/server/servertest"
)

func TestZZBench(t *testing.T) {
	c := dialServer(t, servertest.Start(t).URL)
	const n = 200000
	var batch []parley.Message
	for i := range n {
		batch = append(batch, parley.Message{Topic: "/a", Body: fmt.Appendf(nil, "line number %d of a text file of average length, no more", i)})
	}
	b := time.Now()
	if _, err := c.PublishAll(t.Context(), batch); err != nil {
		t.Fatal(err)
	}
	t.Logf("PublishAll %.0f/s", n/time.Since(b).Seconds())
	b = time.Now()
	k := 0
	for _, err := range c.Subscribe(t.Context(), "/a", client.After(0), client.ReplayOnly()) {
		if err != nil {
			t.Fatal(err)
		}
		k++
	}
	t.Logf("replay %d %.0f/s", k, float64(k)/time.Since(b).Seconds())
	b = time.Now()
	var w sync.WaitGroup
	for g := range 64 {
		w.Go(func() {
			for i := range 500 {
				if _, err := c.Publish(t.Context(), parley.Message{Topic: "/b", Body: fmt.Appendf(nil, "%d %d", g, i)}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	w.Wait()
	t.Logf("Publish x64 %.0f/s", 32000/time.Since(b).Seconds())
}
