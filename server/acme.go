package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"
)

// ACME says how the server gets its certificate by itself.
type ACME struct {
	// Domains are the names to get certificates for; without any, none is got.
	// The certificate authority must reach the server by them, on port 443 for
	// TLS or on port 80 for plain HTTP. Whoever sets one agrees to the authority's
	// terms.
	Domains []string
	// Email is told to the authority, for notices about the certificates.
	Email string
	// Directory is the authority's URL; empty is Let's Encrypt.
	Directory string
	// CA is a PEM file with the certificate that a private authority's own server
	// is trusted by; empty is the machine's.
	CA string
}

// acmeDir is where certificates and their keys are kept, in the store's directory.
const acmeDir = "acme"

// acmeTimeout bounds a request to the authority.
const acmeTimeout = 30 * time.Second

// ordered is certificates that are ordered from an authority. After a failure it
// orders none for a while, whoever asks: authorities count failures, and lock out
// who has many.
type ordered struct {
	manager *autocert.Manager
	domains []string
	logger  *slog.Logger
	stopped atomic.Bool // nothing is asked of the authority any more

	mu sync.Mutex // guards what follows
	// there are the names, and the kinds of key, with a certificate.
	there map[string]bool
	// after is when the next order may be made, wait how long it was.
	after time.Time
	wait  time.Duration
}

// How long to wait after failures.
const (
	firstWait   = time.Minute
	longestWait = time.Hour
)

// orderCertificates makes them; there is one only once somebody asks for it.
func orderCertificates(c *Config, logger *slog.Logger) (*ordered, error) {
	a := &c.HTTP.TLS.ACME
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	if a.CA != "" {
		var err error
		if transport.TLSClientConfig.RootCAs, err = readRoots("acme-ca", a.CA); err != nil {
			return nil, err
		}
	}
	o := &ordered{domains: a.Domains, logger: logger, there: make(map[string]bool)}
	client := &http.Client{Timeout: acmeTimeout, Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
		if o.stopped.Load() {
			return nil, errStopping
		}
		return transport.RoundTrip(r)
	})}
	o.manager = &autocert.Manager{
		Prompt: autocert.AcceptTOS, Email: a.Email, HostPolicy: o.ours,
		Cache:  autocert.DirCache(filepath.Join(c.Storage.Path, acmeDir)),
		Client: &acme.Client{DirectoryURL: a.Directory, HTTPClient: client, UserAgent: "parley"},
	}
	return o, nil
}

// roundTrip is a function as a transport.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// ours refuses what is not one of the configured names.
func (o *ordered) ours(_ context.Context, host string) error {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	if !slices.Contains(o.domains, host) {
		return fmt.Errorf("%.100q is not a name of this server", host)
	}
	return nil
}

var errNotNow = errors.New("the last order of a certificate failed, and the next is not made yet")

// get is the certificate for a client, which waits while one is ordered. Clients
// that do not say whom they want get the first.
func (o *ordered) get(ctx context.Context, hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if slices.Equal(hello.SupportedProtos, []string{acme.ALPNProto}) {
		return o.manager.GetCertificate(hello) // a challenge
	}
	asked := *hello
	asked.ServerName = strings.TrimSuffix(strings.ToLower(hello.ServerName), ".")
	if asked.ServerName == "" {
		asked.ServerName = o.domains[0]
	}
	if err := o.ours(ctx, asked.ServerName); err != nil {
		return nil, err
	}
	// A client that knows no ECDSA has a certificate of another kind.
	kind := asked.ServerName
	if !slices.ContainsFunc(hello.SignatureSchemes, ofECDSA) {
		kind += " RSA"
	}
	if !o.mayAsk(kind) {
		return nil, errNotNow
	}
	cert, err := o.manager.GetCertificate(&asked)
	o.judge(ctx, kind, err)
	return cert, err
}

func ofECDSA(s tls.SignatureScheme) bool {
	return s == tls.ECDSAWithP256AndSHA256 || s == tls.ECDSAWithP384AndSHA384 || s == tls.ECDSAWithP521AndSHA512
}

// mayAsk reports whether the manager may be asked for a certificate, which may have
// it order one.
func (o *ordered) mayAsk(kind string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.there[kind] || !time.Now().Before(o.after)
}

// judge notes how that went.
func (o *ordered) judge(ctx context.Context, kind string, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if err == nil {
		o.there[kind], o.wait = true, 0
		return
	}
	now := time.Now()
	if now.Before(o.after) || o.stopped.Load() {
		return // several wait for one order
	}
	o.wait = min(max(2*o.wait, firstWait), longestWait)
	o.after = now.Add(o.wait)
	o.logger.ErrorContext(ctx, "cannot get a certificate", "for", kind, "error", err, "again_in", o.wait.String())
}

// run orders what is missing at the start, so that the first client need not wait,
// and again until all are there.
func (o *ordered) run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { o.stopped.Store(true) })
	defer stop()
	for {
		missing := false
		for _, name := range o.domains {
			_, err := o.get(ctx, modern(name))
			missing = missing || err != nil
		}
		if !missing {
			o.logger.InfoContext(ctx, "certificates are there", "names", o.domains)
			<-ctx.Done()
			return nil
		}
		again := time.NewTimer(firstWait)
		select {
		case <-ctx.Done():
			again.Stop()
			return nil
		case <-again.C:
		}
	}
}

// modern is what a client of today says.
func modern(name string) *tls.ClientHelloInfo {
	return &tls.ClientHelloInfo{
		ServerName: name, SupportedVersions: []uint16{tls.VersionTLS13},
		CipherSuites:     []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256},
		SupportedCurves:  []tls.CurveID{tls.CurveP256},
		SignatureSchemes: []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256},
	}
}

// config is for a listener, with the challenge that is answered over TLS.
func (o *ordered) config() *tls.Config {
	config := secureConfig()
	config.NextProtos = append(config.NextProtos, acme.ALPNProto)
	config.GetCertificate = func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) { return o.get(hello.Context(), hello) }
	return config
}

// answer answers the challenge over plain HTTP, and passes everything else on.
func (o *ordered) answer(next http.Handler) http.Handler { return o.manager.HTTPHandler(next) }

// acmeFaults checks what one setting alone cannot show.
func (c *Config) acmeFaults(add func(key, problem string)) {
	a := &c.HTTP.TLS.ACME
	switch {
	case len(a.Domains) == 0 && a.Email+a.Directory+a.CA != "":
		add("acme-domain", "is needed with --acme-email, --acme-directory and --acme-ca")
	case len(a.Domains) == 0:
	case c.HTTP.TLS.Listen == "":
		add("acme-domain", "is not used without --https HOST:PORT")
	case c.HTTP.TLS.Cert+c.HTTP.TLS.Key != "":
		add("acme-domain", "and --tls-cert both say which certificate; allowed: one of them")
	case c.inMemory():
		add("acme-domain", "needs a store on disk, where the certificates are kept: an authority gives out few")
	}
}

// inMemory reports whether nothing of the server outlives it.
func (c *Config) inMemory() bool {
	return c.Storage.Kind == StorageMemory && c.Storage.Records != StorageFile
}

// acmeSettings are those of certificates that the server gets by itself.
func acmeSettings() []Setting {
	return []Setting{
		list("acme-domain", "name to get a certificate for from an authority (ACME), instead of tls-cert; whoever sets it agrees to the authority's terms", domain(),
			func(c *Config) *[]string { return &c.HTTP.TLS.ACME.Domains }),
		one("acme-email", "address for the authority's notices", optional(word("ADDRESS")),
			func(c *Config) *string { return &c.HTTP.TLS.ACME.Email }),
		one("acme-directory", "the authority's URL; empty is Let's Encrypt", optional(httpsURL()),
			func(c *Config) *string { return &c.HTTP.TLS.ACME.Directory }),
		one("acme-ca", "PEM file with the certificate that a private authority's own server is trusted by", file(),
			func(c *Config) *string { return &c.HTTP.TLS.ACME.CA }),
	}
}

// domain is a name in the DNS, in lower case.
func domain() kind[string] {
	return kind[string]{
		value: "NAME", allowed: "a name such as chat.example, in lower case", format: asIs,
		parse: func(s string) (string, error) {
			plain := func(r rune) bool { return r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' || r == '.' }
			if len(s) > 253 || !strings.Contains(strings.Trim(s, "."), ".") || strings.Trim(s, ".-") != s || strings.Contains(s, "..") ||
				strings.ContainsFunc(s, func(r rune) bool { return !plain(r) }) || net.ParseIP(s) != nil {
				return "", errors.New("is no such name")
			}
			return s, nil
		},
	}
}

// httpsURL is a URL with https.
func httpsURL() kind[string] {
	return kind[string]{
		value: "URL", allowed: "a URL with https", format: asIs,
		parse: func(s string) (string, error) {
			u, err := url.Parse(s)
			if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil {
				return "", errors.New("is none")
			}
			return s, nil
		},
	}
}
