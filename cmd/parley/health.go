package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/parley-im/parley"
)

// healthPatience is how long a check may take; the server itself gives up on its
// store after five seconds.
const healthPatience = 8 * time.Second

func newHealth() *cobra.Command {
	c := &cobra.Command{
		Use:   "health",
		Short: "Say whether a server is well",
		Long: "Health asks a server for its health check. It exits with 0 when all is well, and with 3 and what is wrong on stderr\n" +
			"when something is not or nobody answers: what a container without a shell needs. In the environment of the server\n" +
			"it needs no flags: it goes by PARLEY_HTTP, by PARLEY_ADMIN_LISTEN where that is empty, and by\n" +
			"PARLEY_HEALTH_ENDPOINT. A server that speaks only HTTPS is asked with --server, by the name in its certificate.",
		Example: "  parley health\n" +
			"  parley health --server http://10.0.0.7:8080\n" +
			"  docker exec parley /parley health",
		Args: between(0, 0),
	}
	url := c.Flags().String("server", nearServer(os.LookupEnv), "the server's `URL`; PARLEY_URL in the environment, or what PARLEY_HTTP says")
	path := c.Flags().String("path", healthPath(os.LookupEnv), "`PATH` of the check; PARLEY_HEALTH_ENDPOINT in the environment")
	c.RunE = func(c *cobra.Command, _ []string) error {
		ctx, cancel := context.WithTimeout(c.Context(), healthPatience)
		defer cancel()
		if err := checkHealth(ctx, *url, *path); err != nil {
			return err
		}
		_, err := fmt.Fprintln(c.OutOrStdout(), "healthy")
		return err
	}
	return c
}

// nearServer is the URL of the server that runs in the same environment.
func nearServer(lookup func(string) (string, bool)) string {
	if url, ok := lookup("PARLEY_URL"); ok && url != "" {
		return url
	}
	listen, ok := lookup("PARLEY_HTTP")
	if ok && listen == "" { // no plain HTTP for clients, but perhaps for operators
		listen, _ = lookup("PARLEY_ADMIN_LISTEN")
	}
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return defaultServer
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return "http://" + net.JoinHostPort(host, port)
}

// healthPath is where the server in the same environment has its check; where
// that is switched off, readiness must do.
func healthPath(lookup func(string) (string, bool)) string {
	switch path, ok := lookup("PARLEY_HEALTH_ENDPOINT"); {
	case !ok:
		return "/admin/healthcheck"
	case path == "":
		return "/admin/readycheck"
	default:
		return path
	}
}

// checkHealth is nil when the server is well, and otherwise says what is wrong.
func checkHealth(ctx context.Context, server, path string) error {
	req, err := adminRequest(ctx, http.MethodGet, server, path)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("%w: %w", parley.ErrUnavailable, err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode == http.StatusOK {
		return nil
	}
	const longest = 64 << 10
	var wrong map[string]string
	if json.NewDecoder(io.LimitReader(resp.Body, longest)).Decode(&wrong) != nil || len(wrong) == 0 {
		return fmt.Errorf("%s is %w: the server answers %s", path, parley.ErrUnavailable, resp.Status)
	}
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(wrong)) {
		parts = append(parts, name+": "+wrong[name])
	}
	return &answered{text: "not well: " + strings.Join(parts, "; "), kind: parley.ErrUnavailable}
}
