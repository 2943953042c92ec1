package wire

import (
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/parley-im/parley"
)

// Policy says which browsers may connect. A browser tells honestly which page
// it acts for, and lets any page connect anywhere: without a policy every page
// that a user visits could use what the user's machine can reach. Programs that
// are not browsers send no Origin and are not concerned.
//
// The zero Policy admits pages of the server's own origin only.
type Policy struct {
	// Open is for a server that asks nobody for credentials and therefore
	// listens on loopback only. It admits only requests whose Host is a
	// loopback name or address, because a page can point a name of its own at
	// 127.0.0.1 (DNS rebinding), and pages of any loopback origin.
	Open bool
	// Origins are admitted besides the server's own.
	Origins []Origin
}

// Origin is a web origin: scheme, host and port, all compared exactly.
type Origin struct{ scheme, host, port string }

// ParseOrigin reads "scheme://host" or "scheme://host:port", in any case, with
// at most a slash behind it. The error wraps parley.ErrInvalid.
func ParseOrigin(s string) (Origin, error) {
	scheme, rest, ok := strings.Cut(s, "://")
	scheme = strings.ToLower(scheme)
	if !ok || !isScheme(scheme) {
		return Origin{}, fmt.Errorf("origin must be scheme://host or scheme://host:port: %w", parley.ErrInvalid)
	}
	host, port, ok := splitHost(strings.TrimSuffix(rest, "/"))
	if !ok {
		return Origin{}, fmt.Errorf("origin must have a host, perhaps a port, and nothing else: %w", parley.ErrInvalid)
	}
	return Origin{scheme, host, effectivePort(scheme, port)}, nil
}

// String is the origin with its port.
func (o Origin) String() string {
	host := o.host
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if o.port == "" {
		return o.scheme + "://" + host
	}
	return o.scheme + "://" + host + ":" + o.port
}

// Check applies CheckHost and CheckOrigin to a request. The error wraps
// parley.ErrForbidden.
func (p *Policy) Check(r *http.Request) error {
	if err := p.CheckHost(r.Host); err != nil {
		return err
	}
	switch origins := r.Header.Values("Origin"); len(origins) {
	case 0:
		return nil
	case 1:
		return p.CheckOrigin(origins[0], r.Host, r.TLS != nil)
	default:
		return fmt.Errorf("more than one Origin: %w", parley.ErrForbidden)
	}
}

// CheckHost tells whether a request for that Host is served; only an open
// server minds.
func (p *Policy) CheckHost(host string) error {
	if !p.Open {
		return nil
	}
	if name, _, ok := splitHost(host); !ok || !isLoopback(name) {
		return fmt.Errorf("the host is not a loopback name or address: %w", parley.ErrForbidden)
	}
	return nil
}

// CheckOrigin tells whether a page of that origin may connect to the server
// called host, the request having come over TLS or not. Behind a proxy that
// ends TLS nobody knows the scheme that the browser used: without TLS, http and
// https are both taken for the server's own.
func (p *Policy) CheckOrigin(origin, host string, tls bool) error {
	o, err := ParseOrigin(origin)
	if err != nil {
		// Also "null", which is what a sandboxed page of anybody's says.
		return fmt.Errorf("the origin is none: %w", parley.ErrForbidden)
	}
	if slices.Contains(p.Origins, o) {
		return nil
	}
	web := o.scheme == "https" || o.scheme == "http"
	if p.Open && web && isLoopback(o.host) {
		return nil
	}
	name, port, ok := splitHost(host)
	if ok && web && (o.scheme == "https" || !tls) && o.host == name && o.port == effectivePort(o.scheme, port) {
		return nil
	}
	return fmt.Errorf("the origin is not admitted: %w", parley.ErrForbidden)
}

// splitHost splits and normalises "host", "host:port", "[v6]" or "[v6]:port".
func splitHost(s string) (host, port string, ok bool) {
	if colon := strings.LastIndexByte(s, ':'); colon > strings.LastIndexByte(s, ']') {
		n, err := strconv.ParseUint(s[colon+1:], 10, 16)
		if err != nil || n == 0 {
			return "", "", false
		}
		s, port = s[:colon], strconv.FormatUint(n, 10)
	}
	if inner, bracket := strings.CutPrefix(s, "["); bracket {
		inner, bracket = strings.CutSuffix(inner, "]")
		addr, err := netip.ParseAddr(inner)
		if !bracket || err != nil || !addr.Is6() || addr.Zone() != "" {
			return "", "", false
		}
		return addr.String(), port, true
	}
	host = strings.ToLower(s)
	return host, port, host != "" && strings.Trim(host, "abcdefghijklmnopqrstuvwxyz0123456789-._") == ""
}

func isScheme(s string) bool {
	return s != "" && s[0] >= 'a' && s[0] <= 'z' && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789+-.") == ""
}

// effectivePort is the port, or the scheme's usual one where none is given.
func effectivePort(scheme, port string) string {
	switch {
	case port != "":
		return port
	case scheme == "http":
		return "80"
	case scheme == "https":
		return "443"
	}
	return ""
}

func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.IsLoopback()
}
