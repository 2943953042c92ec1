// Package client talks to a Parley server: it publishes messages, follows
// topics and reads their history.
//
//	c, err := client.Dial(ctx, "http://127.0.0.1:8080", client.Options{Name: "billing/1.0"})
//	if err != nil {
//		return err
//	}
//	defer c.Close()
//
//	receipt, err := c.Publish(ctx, parley.Message{Topic: "/orders/eu", Body: []byte("one book")})
//
//	for m, err := range c.Subscribe(ctx, "/orders", client.After(receipt.Seq)) {
//		if err != nil {
//			log.Warn("orders", "err", err)
//			continue // what cannot go on ends the loop by itself
//		}
//		handle(m)
//	}
//
// # When the connection breaks
//
// A [Client] holds one connection and mends it by itself: it waits a random
// part of an exponentially growing time (or as long as the server's goodbye
// said), connects, introduces itself as the same producer, repeats the requests
// that were not answered, and subscribes again from where each subscription
// had come to. To the application this looks like a pause:
//
//   - A publish is repeated with the same id, so that the server stores it
//     once, as long as the pause is shorter than the server remembers ids (24
//     hours, unless configured or a very busy server).
//   - A subscription goes on after the last message that it received. Nothing is
//     lost and nothing repeated; what the server no longer has is reported as a
//     [GapError], never skipped in silence.
//
// A server that is too busy to answer is asked again in the same way. The
// contexts given to the calls say how long a pause may be: a call that ends with
// its context's error also says what it was waiting for, and then wraps
// [parley.ErrUnavailable] too.
//
// # When the application is slow
//
// Every subscription has a buffer of about 1 MiB. When one is full the client
// stops reading its connection for a moment, so that the server slows down; an
// application that needs longer has its subscription paused: the client tells
// the server to stop, and takes it up again after the last buffered message
// when the loop comes back for more. So a loop may take as long as it wants,
// loses nothing, does not hold up other calls and subscriptions, and can itself
// publish on the same client.
//
// # Goroutines and errors
//
// All methods may be called by many goroutines at once. [Dial] starts the
// goroutines that serve the connection, and [Client.Close] waits for them; no
// other function leaves one behind.
//
// An error that the server reports is an [*Error] and wraps one of the kinds of
// error of package parley.
package client
