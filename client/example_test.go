package client_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/client"
	"github.com/parley-im/parley/server"
)

// start runs a server in memory on a free port. Programs use the address of one
// that runs elsewhere.
func start() (url string, stop func()) {
	cfg := server.Default()
	cfg.HTTP.Listen = "127.0.0.1:0"
	cfg.Storage.Kind = server.StorageMemory
	cfg.Logger = slog.New(slog.DiscardHandler)
	s, err := server.New(cfg)
	if err != nil {
		panic(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = s.Run(ctx) })
	return s.URL(), func() {
		cancel()
		running.Wait()
	}
}

func Example() {
	ctx := context.Background()
	url, stop := start()
	defer stop()

	c, err := client.Dial(ctx, url, client.Options{Name: "example/1.0"})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()

	first, err := c.Publish(ctx, parley.Message{Topic: "/orders/eu", Body: []byte("one book")})
	if err != nil {
		fmt.Println(err)
		return
	}

	// Publishing it again with its id stores nothing new.
	again, err := c.Publish(ctx, parley.Message{Topic: "/orders/eu", Body: []byte("one book"), ID: first.ID})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("the same message:", again.Seq == first.Seq, again.Duplicate)
	// Output: the same message: true true
}

func ExampleClient_Subscribe() {
	ctx := context.Background()
	url, stop := start()
	defer stop()

	c, err := client.Dial(ctx, url, client.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()

	for _, body := range []string{"one book", "two books", "done"} {
		if _, err := c.Publish(ctx, parley.Message{Topic: "/orders/eu", Body: []byte(body)}); err != nil {
			fmt.Println(err)
			return
		}
	}

	// What was stored comes first, then what is published meanwhile. The loop
	// would go on for ever.
	for m, err := range c.Subscribe(ctx, "/orders", client.After(0)) {
		var gap *client.GapError
		switch {
		case errors.As(err, &gap):
			fmt.Println("missed some:", gap)
			continue
		case err != nil:
			fmt.Println(err)
			continue
		}
		fmt.Println(m.Topic, string(m.Body))
		if string(m.Body) == "done" {
			break
		}
	}
	// Output:
	// /orders/eu one book
	// /orders/eu two books
	// /orders/eu done
}

// A loop may publish on the client that it reads from.
func ExampleClient_Subscribe_reply() {
	ctx := context.Background()
	url, stop := start()
	defer stop()

	c, err := client.Dial(ctx, url, client.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()

	question, err := c.Publish(ctx, parley.Message{Topic: "/questions", Body: []byte("2+2")})
	if err != nil {
		fmt.Println(err)
		return
	}
	for m, err := range c.Subscribe(ctx, "/questions", client.After(question.Seq-1), client.Max(1)) {
		if err != nil {
			fmt.Println(err)
			continue
		}
		// The id makes the answer happen once even if the program dies between
		// publishing it and remembering m.Seq, and starts again. (Then it must
		// have a Producer of its own too.)
		answer := parley.Message{Topic: "/answers", ID: "re " + m.ID, Body: fmt.Appendf(nil, "%s=4", m.Body)}
		if _, err := c.Publish(ctx, answer); err != nil {
			fmt.Println(err)
		}
	}
	for m, err := range c.Subscribe(ctx, "/answers", client.After(0), client.ReplayOnly()) {
		if err != nil {
			fmt.Println(err)
			continue
		}
		fmt.Println(string(m.Body))
	}
	// Output: 2+2=4
}

func ExampleClient_PublishAll() {
	ctx := context.Background()
	url, stop := start()
	defer stop()

	c, err := client.Dial(ctx, url, client.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()

	receipts, err := c.PublishAll(ctx, []parley.Message{
		{Topic: "/readings/hall", Body: []byte("19.5")},
		{Topic: "/readings/yard", Body: []byte("-2.0"), Header: `{"unit":"C"}`},
	})
	fmt.Println(len(receipts), receipts[0].Seq < receipts[1].Seq, err)
	// Output: 2 true <nil>
}

// Reading backwards, a page at a time.
func ExampleClient_History() {
	ctx := context.Background()
	url, stop := start()
	defer stop()

	c, err := client.Dial(ctx, url, client.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()

	var batch []parley.Message
	for i := range 5 {
		batch = append(batch, parley.Message{Topic: "/log", Body: fmt.Append(nil, "line ", i)})
	}
	if _, err := c.PublishAll(ctx, batch); err != nil {
		fmt.Println(err)
		return
	}

	q := client.HistoryQuery{Topic: "/log", Limit: 2, Reverse: true}
	for more := true; more; {
		page, err := c.History(ctx, q)
		if err != nil {
			fmt.Println(err)
			return
		}
		for _, m := range page.Messages {
			fmt.Println(string(m.Body))
		}
		q.Before, more = page.Next, page.More
	}
	// Output:
	// line 4
	// line 3
	// line 2
	// line 1
	// line 0
}

func ExampleClient_Inbox() {
	ctx := context.Background()
	url, stop := start()
	defer stop()

	// In open mode a name is enough; elsewhere a Token, an APIKey or a certificate
	// says who you are.
	bob, err := client.Dial(ctx, url, client.Options{User: "bob"})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer bob.Close()
	ann, err := client.Dial(ctx, url, client.Options{User: "ann", Device: "phone-7f3a"})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer ann.Close()

	sent, err := bob.Send(ctx, client.Letter{To: []string{"ann"}, Body: []byte("lunch?"), Receipts: true})
	if err != nil {
		fmt.Println(err)
		return
	}

	for d, err := range ann.Inbox(ctx, client.ReplayOnly()) {
		if err != nil {
			fmt.Println(err)
			continue
		}
		fmt.Printf("%s: %s\n", d.Sender.User, d.Body)
		if err := d.Ack(ctx); err != nil {
			fmt.Println(err)
			return
		}
	}

	// Bob's inbox says when she has it.
	for d, err := range bob.Inbox(ctx) {
		if err == nil && d.Receipt == client.Delivered && d.ID == sent.ID {
			fmt.Println("delivered to", d.Peer())
			break
		}
	}
	// Output:
	// bob: lunch?
	// delivered to ann
}

func ExampleClient_Durable() {
	ctx := context.Background()
	url, stop := start()
	defer stop()

	c, err := client.Dial(ctx, url, client.Options{User: "billing"})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()
	for _, text := range []string{"one book", "two pens"} {
		if _, err := c.Publish(ctx, parley.Message{Topic: "/orders/eu", Body: []byte(text)}); err != nil {
			fmt.Println(err)
			return
		}
	}

	// Each run of the loop goes on where the one before it was.
	for range 2 {
		for d, err := range c.Durable(ctx, "/orders", "invoices", client.After(0), client.Max(1)) {
			if err != nil {
				fmt.Println(err)
				continue
			}
			fmt.Println(string(d.Body))
			if err := d.Ack(ctx); err != nil {
				fmt.Println(err)
				return
			}
		}
	}
	// Output:
	// one book
	// two pens
}
