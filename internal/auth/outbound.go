package auth

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"syscall"
	"time"

	"github.com/parley-im/parley"
)

// Reach says where requests to providers may go. The zero value is the public
// Internet over https.
type Reach struct {
	// Private allows addresses of this machine and of private networks, and plain
	// http to this machine: for a provider that runs beside the server. Pictures
	// are never fetched from there.
	Private bool
	// Resolver looks names up; nil is the machine's.
	Resolver *net.Resolver
	// TLS is for requests, to trust a certificate of one's own; nil is usual.
	TLS *tls.Config
}

// Bounds of requests to providers.
const (
	fetchTimeout    = 10 * time.Second
	maxRedirects    = 3
	maxAnswerHeader = 32 << 10
)

// outbound fetches what others serve.
type outbound struct {
	client  *http.Client
	private bool
}

// newOutbound makes one that keeps within reach. Addresses are checked when they
// are dialled: a name that is looked up twice may mean two places.
func newOutbound(r Reach) *outbound {
	dialer := &net.Dialer{
		Timeout:  fetchTimeout / 2,
		Resolver: r.Resolver,
		ControlContext: func(_ context.Context, _, address string, _ syscall.RawConn) error {
			return dialable(address, r.Private)
		},
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if r.TLS != nil {
		config = r.TLS.Clone()
		config.MinVersion = max(config.MinVersion, tls.VersionTLS12)
	}
	o := &outbound{private: r.Private}
	o.client = &http.Client{
		Timeout: fetchTimeout,
		Transport: &http.Transport{
			// No proxy: it would be what is dialled, and what it dials is not seen.
			DialContext:            dialer.DialContext,
			TLSClientConfig:        config,
			TLSHandshakeTimeout:    fetchTimeout / 2,
			ResponseHeaderTimeout:  fetchTimeout,
			MaxResponseHeaderBytes: maxAnswerHeader,
			MaxConnsPerHost:        8,
			MaxIdleConnsPerHost:    1,
			IdleConnTimeout:        30 * time.Second,
			ForceAttemptHTTP2:      true,
		},
		CheckRedirect: func(next *http.Request, via []*http.Request) error {
			first := via[0].URL
			if len(via) > maxRedirects || next.URL.Scheme != first.Scheme || next.URL.Host != first.Host {
				return errors.New("it redirects to another place")
			}
			return nil
		},
	}
	return o
}

func (o *outbound) close() { o.client.CloseIdleConnections() }

// checkURL checks a URL before anything is looked up.
func (o *outbound) checkURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.User != nil || u.Fragment != "" || u.Opaque != "" {
		return nil, fmt.Errorf("auth: %.200q is no plain https URL: %w", text, parley.ErrInvalid)
	}
	if u.Scheme == "https" || o.private && u.Scheme == "http" && thisMachine(u.Hostname()) {
		return u, nil
	}
	return nil, fmt.Errorf("auth: %.200q is no https URL: %w", text, parley.ErrInvalid)
}

func thisMachine(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// answer is what was fetched.
type answer struct {
	header http.Header
	body   []byte
}

// fetch gets what is at a URL, up to that many bytes; more is an error.
func (o *outbound) fetch(ctx context.Context, at, accept string, most int64) (*answer, error) {
	u, err := o.checkURL(at)
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), http.NoBody)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept", accept)
	request.Header.Set("User-Agent", "parley")
	response, err := o.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }() // it was only read
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("it answers %d", response.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, most+1))
	if err != nil {
		return nil, err
	}
	if int64(len(body)) > most {
		return nil, fmt.Errorf("it answers more than %d bytes", most)
	}
	return &answer{header: response.Header, body: body}, nil
}

// dialable refuses an address that is not one of the public Internet.
func dialable(address string, private bool) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("auth: %.60q is no address: %w", address, parley.ErrForbidden)
	}
	ip := at.Addr()
	if ip.Is4In6() || !public(ip) && (!private || !internal(ip)) {
		return fmt.Errorf("auth: %s is not an address of the public Internet: %w", ip, parley.ErrForbidden)
	}
	return nil
}

// internal are the addresses that Reach.Private allows: what an organisation has
// of its own. Those where clouds serve their machines' secrets are never dialled:
// they are link-local, but for one.
func internal(ip netip.Addr) bool {
	return ip.IsLoopback() || ip.IsPrivate() && ip != netip.MustParseAddr("fd00:ec2::254")
}

// public reports whether an address is one of the public Internet.
func public(ip netip.Addr) bool {
	if !ip.IsGlobalUnicast() || ip.IsPrivate() || ip.Zone() != "" {
		return false
	}
	for _, p := range special() {
		if p.Contains(ip) {
			return false
		}
	}
	return ip.Is4() || netip.MustParsePrefix("2000::/3").Contains(ip)
}

// special are the networks for special purposes (RFC 6890 and its registry) that
// netip does not know, and those that lead to an IPv4 address inside.
func special() []netip.Prefix {
	var all []netip.Prefix
	for _, p := range []string{
		"0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15",
		"198.51.100.0/24", "203.0.113.0/24", "240.0.0.0/4",
		"64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20", "fec0::/10",
	} {
		all = append(all, netip.MustParsePrefix(p))
	}
	return all
}
