// Command parley is a messaging server and its clients.
//
// "parley serve" runs the server, config shows how it would; pub, sub, history
// and topic talk to one; backup, restore and doctor look after a store; bench
// measures one. "parley COMMAND --help" has examples of each.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	os.Exit(run())
}

// run keeps main's exit from skipping what is deferred.
func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// After the first signal the default takes over: a second one ends the
	// process at once, which is safe, because nothing is acknowledged before it
	// is on disk.
	context.AfterFunc(ctx, stop)
	err := newRoot().ExecuteContext(ctx)
	return exit(ctx, os.Stderr, err)
}
