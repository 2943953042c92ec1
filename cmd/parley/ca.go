package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/auth"
	"github.com/parley-im/parley/server"
)

func newCA() *cobra.Command {
	c := group("ca", "Make certificates for clients and servers with a CA of one's own")
	c.Long = "Ca keeps a certificate authority of two levels in a directory: a root, and an intermediate that issues certificates.\n" +
		"A client certificate proves a user, who is its common name; its serial number is the user's device. The server\n" +
		"accepts those of the directory that --ca-dir of \"parley serve\" names.\n\n" +
		"Init, issue and renew work on the files and need no server; list and revoke ask one."
	c.AddCommand(newCAInit(), newCAIssue(), newCARenew(), newCAList(), newCARevoke())
	return c
}

// defaultCA is where a CA is unless somebody says otherwise.
const defaultCA = "parley-ca"

func caFlag(c *cobra.Command) *string {
	return c.Flags().String("dir", defaultCA, "the CA's `DIR`")
}

func newCAInit() *cobra.Command {
	c := &cobra.Command{
		Use:   "init",
		Short: "Make a new CA in a directory",
		Long: "Init makes the keys and the certificates of a new CA. What it writes nobody but you can read; keep root.key elsewhere\n" +
			"once it is done, for only another intermediate would need it.",
		Example: "  parley ca init\n  parley ca init --dir /etc/parley/ca --rsa",
		Args:    between(0, 0),
	}
	dir := caFlag(c)
	name := c.Flags().String("name", "Parley", "the `NAME` that its certificates begin with")
	ofRSA := c.Flags().Bool("rsa", false, "make RSA keys of 3,072 bits, for old clients")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if *name == "" || len(*name) > 40 {
			return usage(c.CommandPath(), "--name has 1 to 40 bytes")
		}
		if err := auth.InitCA(*dir, auth.Init{Name: *name, RSA: *ofRSA, Now: time.Now()}); err != nil {
			return err
		}
		tell(c.OutOrStdout(), "a new CA is in %s; clients trust %s\n", *dir, filepath.Join(*dir, auth.RootFile))
		return nil
	}
	return c
}

// certificateFlags are what issue and renew have in common.
type certificateFlags struct {
	dir, ttl, cert, key *string
	rsa                 *bool
}

func newCertificateFlags(c *cobra.Command) certificateFlags {
	return certificateFlags{
		dir:  caFlag(c),
		ttl:  c.Flags().String("ttl", "90d", "how long it holds, a `DURATION` such as 1h or 90d"),
		cert: c.Flags().String("cert", "", "`FILE` for the certificate; by default its name and .crt"),
		key:  c.Flags().String("key", "", "`FILE` for its key; by default its name and .key"),
		rsa:  c.Flags().Bool("rsa", false, "make an RSA key of 3,072 bits in PKCS#1, for old clients"),
	}
}

func newCAIssue() *cobra.Command {
	c := &cobra.Command{
		Use:   "issue [USER]",
		Short: "Issue a certificate for a user, or for a server",
		Long: "Issue makes a key and a certificate for a user's client, or with --host for a server, whose file also has the\n" +
			"intermediate's certificate. Existing files are not replaced. It prints the serial number, by which a certificate\n" +
			"can be revoked.",
		Example: "  parley ca issue ann\n" +
			"  parley ca issue ann --rsa --ttl 30d --cert ann-phone.crt --key ann-phone.key\n" +
			"  parley ca issue --host chat.example --host 192.0.2.7",
		Args: between(0, 1),
	}
	flags := newCertificateFlags(c)
	hosts := c.Flags().StringArray("host", nil, "a `NAME` or address of a server, instead of a user; may be repeated")
	c.RunE = func(c *cobra.Command, args []string) error {
		if (len(args) == 0) == (len(*hosts) == 0) {
			return usage(c.CommandPath(), "either a user or --host")
		}
		r := auth.Request{Hosts: *hosts}
		if len(args) > 0 {
			user, err := parley.ParseUser(args[0])
			if err != nil {
				return usage(c.CommandPath(), "%w", err)
			}
			r.User = user
		}
		return flags.make(c, r, nil)
	}
	return c
}

func newCARenew() *cobra.Command {
	c := &cobra.Command{
		Use:   "renew FILE",
		Short: "Issue a user's certificate again",
		Long: "Renew makes a new key and certificate for the user and the device of an older certificate, which may have expired.\n" +
			"It does not know what is revoked, and does not revoke the older one.",
		Example: "  parley ca renew ann.crt --cert ann-2.crt --key ann-2.key",
		Args:    between(1, 1),
	}
	flags := newCertificateFlags(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		const most = 64 << 10
		info, err := os.Stat(args[0])
		if err == nil && info.Size() > most {
			err = fmt.Errorf("%s is no certificate: %w", args[0], parley.ErrInvalid)
		}
		var old []byte
		if err == nil {
			old, err = os.ReadFile(args[0])
		}
		if err != nil {
			return notThere(err)
		}
		return flags.make(c, auth.Request{}, old)
	}
	return c
}

// make makes the certificate, again if there is an old one, and writes both files
// or none.
func (f *certificateFlags) make(c *cobra.Command, r auth.Request, old []byte) error {
	ttl, err := server.ParseDuration(*f.ttl)
	if err != nil {
		return usage(c.CommandPath(), "--ttl %q is %w", *f.ttl, err)
	}
	r.TTL, r.RSA, r.Now = ttl, *f.rsa, time.Now()
	ca, err := auth.OpenCA(*f.dir)
	if err != nil {
		return notThere(err)
	}
	var made *auth.Made
	if old != nil {
		made, err = ca.Renew(c.Context(), old, r)
	} else {
		made, err = ca.Issue(c.Context(), r)
	}
	if err != nil {
		return err
	}
	cert, key := *f.cert, *f.key
	if cert == "" {
		cert = made.Record.User + ".crt"
	}
	if key == "" {
		key = made.Record.User + ".key"
	}
	if err := writeNew(key, made.Key, 0o600); err != nil {
		return err
	}
	if err := writeNew(cert, made.Certificate, 0o644); err != nil {
		return errors.Join(err, os.Remove(key)) //nolint:gosec // it was made just now
	}
	tell(c.OutOrStdout(), "%s %s until %s in %s and %s\n", made.Record.Serial, made.Record.User, made.Record.Expires.UTC().Format(time.RFC3339), cert, key)
	return nil
}

// writeNew writes a file that must not be there yet.
func writeNew(name string, text []byte, mode os.FileMode) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode) //nolint:gosec // the user names it
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("there is %s already: %w", name, parley.ErrConflict)
	}
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(name)) //nolint:gosec // as above
	}
	return nil
}

// notThere says of a file that does not exist that it was not found.
func notThere(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %w", err, parley.ErrNotFound)
	}
	return err
}
