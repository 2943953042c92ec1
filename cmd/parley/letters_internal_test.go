package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/client"
)

// reject USER DEVICE REASON refuses for good everything that waits for a device,
// which no command of the program does.
func reject(ts *testscript.TestScript, _ bool, args []string) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	c, err := client.Dial(ctx, ts.Getenv("PARLEY_URL"), client.Options{User: args[0], Device: args[1]})
	ts.Check(err)
	defer func() { _ = c.Close() }()
	for m, err := range c.Inbox(ctx, client.ReplayOnly()) {
		ts.Check(err)
		ts.Check(m.Reject(ctx, args[2]))
	}
}

// certified NAME TEXTS connects to the TLS address in $ADMIN with the certificate
// NAME.crt of parley-ca, and acknowledges what waits for its device: TEXTS,
// separated by commas. The device is then in $DEVICE. With !, the certificate is
// not accepted.
func certified(ts *testscript.TestScript, refused bool, args []string) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	pair, err := tls.X509KeyPair([]byte(ts.ReadFile(args[0]+".crt")), []byte(ts.ReadFile(args[0]+".key")))
	ts.Check(err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(ts.ReadFile("parley-ca/root.crt")))
	c, err := client.Dial(ctx, "https://"+ts.Getenv("ADMIN"), client.Options{TLS: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}}})
	if refused {
		if !errors.Is(err, parley.ErrUnauthenticated) {
			ts.Fatalf("%s is answered %v", args[0], err)
		}
		return
	}
	ts.Check(err)
	defer func() { _ = c.Close() }()
	me, err := c.WhoAmI(ctx)
	ts.Check(err)
	ts.Setenv("DEVICE", me.Device)
	var texts []string
	for m, err := range c.Inbox(ctx, client.ReplayOnly()) {
		ts.Check(err)
		ts.Check(m.Ack(ctx))
		texts = append(texts, string(m.Body))
	}
	if got := strings.Join(texts, ","); got != args[1] {
		ts.Fatalf("%s gets %q, want %q", args[0], got, args[1])
	}
}

// capture NAME N: the word N, from 1, of the last command's
// last line of stdout becomes $NAME.
func capture(ts *testscript.TestScript, _ bool, args []string) {
	lines := strings.Split(strings.TrimSpace(ts.ReadFile("stdout")), "\n")
	words := strings.Fields(lines[len(lines)-1])
	n, err := strconv.Atoi(args[1])
	ts.Check(err)
	if n > len(words) {
		ts.Fatalf("%q has no word %d", lines[len(lines)-1], n)
	}
	ts.Setenv(args[0], words[n-1])
}
