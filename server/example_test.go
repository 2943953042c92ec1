package server_test

import (
	"context"
	"fmt"
	"log/slog"
	"sync"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/client"
	"github.com/parley-im/parley/server"
)

// A program with a messaging server inside it.
func Example() {
	cfg := server.Default()
	cfg.HTTP.Listen = "127.0.0.1:0"            // any free port
	cfg.Storage.Kind = server.StorageMemory    // nothing outlives the program
	cfg.Logger = slog.New(slog.DiscardHandler) // or the program's own

	s, err := server.New(cfg)
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := s.Run(ctx); err != nil {
			fmt.Println(err)
		}
	})
	defer running.Wait()
	defer stop()

	c, err := client.Dial(ctx, s.URL(), client.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()
	if _, err := c.Publish(ctx, parley.Message{Topic: "/hello", Body: []byte("hi there")}); err != nil {
		fmt.Println(err)
		return
	}
	for m, err := range c.Subscribe(ctx, "/hello", client.After(0), client.Max(1)) {
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Printf("%s: %s\n", m.Topic, m.Body)
	}
	// Output: /hello: hi there
}
