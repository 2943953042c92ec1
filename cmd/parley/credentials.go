package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/client"
)

// credentials are what the flags of a client command, and the environment, say
// about who it is.
type credentials struct {
	server             string
	tokenFile, keyFile string
	token, apiKey      string // of the environment
	user, device       string
	onArgv             [2]string // secrets on the command line, which are refused
}

// credentialFlags adds --server and the flags that say who asks.
func credentialFlags(c *cobra.Command) *credentials {
	k := &credentials{token: os.Getenv("PARLEY_TOKEN"), apiKey: os.Getenv("PARLEY_API_KEY")}
	f := c.Flags()
	f.StringVar(&k.server, "server", cmp.Or(os.Getenv("PARLEY_URL"), defaultServer), "the server's `URL`; PARLEY_URL in the environment")
	f.StringVar(&k.tokenFile, "token-file", "", "`FILE` with the token to authenticate with, read again for every connection; or PARLEY_TOKEN in the environment")
	f.StringVar(&k.keyFile, "api-key-file", "", "`FILE` with an API key; or PARLEY_API_KEY in the environment")
	f.StringVar(&k.user, "user", os.Getenv("PARLEY_USER"), "`NAME` to be known by at a server that asks for no credential; PARLEY_USER in the environment")
	f.StringVar(&k.device, "device", os.Getenv("PARLEY_DEVICE"), "`NAME` of this device, whose place in the inbox the server keeps; PARLEY_DEVICE in the environment")
	for i, name := range []string{"token", "api-key"} {
		f.StringVar(&k.onArgv[i], name, "", "")
		_ = f.MarkHidden(name) // there is such a flag
	}
	return k
}

// options are what the client needs of k. Flags count more than the environment.
func (k *credentials) options(c *cobra.Command) (client.Options, error) {
	o := client.Options{Device: k.device}
	for i, flag := range []string{"token", "api-key"} {
		if k.onArgv[i] != "" {
			return o, usage(c.CommandPath(), "a command line can be read by everybody on this machine: use --%s-file, or %s in the environment",
				flag, []string{"PARLEY_TOKEN", "PARLEY_API_KEY"}[i])
		}
	}
	named := c.Flags().Changed("user")
	if k.tokenFile != "" && (k.keyFile != "" || named) || k.keyFile != "" && named {
		return o, usage(c.CommandPath(), "--token-file, --api-key-file and --user exclude each other")
	}
	var err error
	switch {
	case k.tokenFile != "":
		o.Token = func(context.Context) (string, error) { return readSecret(k.tokenFile) }
		_, err = o.Token(c.Context())
	case k.keyFile != "":
		o.APIKey, err = readSecret(k.keyFile)
	case named:
		o.User = k.user
	case k.token != "":
		o.Token = func(context.Context) (string, error) { return k.token, nil }
	case k.apiKey != "":
		o.APIKey = k.apiKey
	default:
		o.User = k.user
	}
	if err != nil {
		return o, usage(c.CommandPath(), "%w", err)
	}
	return o, nil
}

// maxSecret bounds a file with a secret: more than any server takes.
const maxSecret = 64 << 10

// readSecret reads a file with one line that is a secret. Its errors name the
// file and nothing of what is in it.
func readSecret(name string) (string, error) {
	secret, err := readPrivate(name)
	switch {
	case err != nil:
		return "", err
	case secret == "" || strings.ContainsAny(secret, "\r\n"):
		return "", fmt.Errorf("%s must hold one line", name)
	}
	return secret, nil
}

// readPrivate reads a file that others may not open, without the white space
// around it.
func readPrivate(name string) (string, error) {
	info, err := os.Stat(name)
	switch {
	case err != nil:
		return "", err
	case !info.Mode().IsRegular():
		return "", fmt.Errorf("%s is not a plain file", name)
	}
	const others = 0o007
	if mode := info.Mode().Perm(); mode&others != 0 {
		return "", fmt.Errorf("%s holds a secret and everybody may open it, its mode is %04o; allowed: 0600 or 0640", name, mode)
	}
	f, err := os.Open(name) //nolint:gosec // whoever runs the command names the file
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }() // it was only read
	text, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	secret := strings.TrimSpace(string(text))
	switch {
	case err != nil:
		return "", err
	case len(text) > maxSecret:
		return "", fmt.Errorf("%s is longer than %d bytes", name, maxSecret)
	}
	return secret, nil
}

// errNobody is a server that was not told who asks.
var errNobody = fmt.Errorf("the server does not know who you are: say so with --token-file, --api-key-file or --user: %w", parley.ErrUnauthenticated)

// who is whose inbox a command is about: a server that does not know has nothing
// to show.
func who(ctx context.Context, conn *client.Client) (client.WhoAmI, error) {
	me, err := conn.WhoAmI(ctx)
	if err == nil && me.User == "" {
		err = errNobody
	}
	return me, err
}
