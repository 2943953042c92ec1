package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/parley-im/parley"
)

// certificate is a certificate and its key, read from two files and read again
// when those change.
type certificate struct {
	files  TLS
	logger *slog.Logger

	// latest is what new connections get; established ones keep theirs.
	latest atomic.Pointer[tls.Certificate]

	mu sync.Mutex // one at a time reloads; guards read
	// read is of which files latest was made.
	read [2]time.Time
}

// openTLS makes what the listener with TLS needs, if there is one.
func (s *Server) openTLS() error {
	var err error
	switch c := &s.cfg.HTTP.TLS; {
	case c.Listen == "":
	case len(c.ACME.Domains) > 0:
		s.ordered, err = orderCertificates(&s.cfg, s.logger)
	default:
		s.certificate, err = s.openCertificate(c.Cert, c.Key)
	}
	return err
}

// tlsConfig is for the listener with TLS. With a CA, clients may show a
// certificate of that.
func (s *Server) tlsConfig() *tls.Config {
	var config *tls.Config
	if s.ordered != nil {
		config = s.ordered.config()
	} else {
		config = s.certificate.config()
	}
	if s.access.ca != nil {
		config.ClientAuth, config.ClientCAs = tls.VerifyClientCertIfGiven, s.access.ca.Pool()
	}
	return config
}

// openCertificate is the certificate of these files, which is read again when
// they change, however many listeners have it.
func (s *Server) openCertificate(cert, key string) (*certificate, error) {
	for _, c := range s.certificates {
		if c.files.Cert == cert && c.files.Key == key {
			return c, nil
		}
	}
	c, err := openCertificate(TLS{Cert: cert, Key: key}, s.logger)
	if err == nil {
		s.certificates = append(s.certificates, c)
	}
	return c, err
}

// openCertificate reads the files. The error wraps parley.ErrInvalid.
func openCertificate(files TLS, logger *slog.Logger) (*certificate, error) {
	c := &certificate{files: files, logger: logger}
	return c, c.reload()
}

// readRoots reads the certificates, in PEM, by which another server is trusted;
// key is the setting that names the file.
func readRoots(key, name string) (*x509.CertPool, error) {
	text, _, err := readFile(name)
	if err != nil {
		return nil, fmt.Errorf("server: %s: %w", key, invalid(err))
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("server: %s: %s has no certificate: %w", key, name, parley.ErrInvalid)
	}
	return roots, nil
}

// config is for a listener.
func (c *certificate) config() *tls.Config {
	config := secureConfig()
	config.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		return c.latest.Load(), nil
	}
	return config
}

// secureConfig is TLS 1.2 with forward secrecy and authenticated encryption, or
// 1.3. Of 1.2's suites only those are left that no attack on padding reaches.
func secureConfig() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		CipherSuites: []uint16{
			tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
			tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
		},
		NextProtos: []string{"http/1.1"}, // a WebSocket needs it
	}
}

// reload reads the files and uses what they hold from now on. When they are not
// a pair, or the key is open to others, what was used before stays.
func (c *certificate) reload() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.reloadLocked()
}

func (c *certificate) reloadLocked() error {
	times, err := c.times()
	if err != nil {
		return err
	}
	pair, err := tls.LoadX509KeyPair(c.files.Cert, c.files.Key)
	if err != nil {
		return fmt.Errorf("server: certificate %s with key %s: %w: %w", c.files.Cert, c.files.Key, err, parley.ErrInvalid)
	}
	if now := time.Now(); now.After(pair.Leaf.NotAfter) {
		c.logger.Warn("the certificate has expired", "file", c.files.Cert, "expired", pair.Leaf.NotAfter)
	}
	c.latest.Store(&pair)
	c.read = times
	return nil
}

// times are when the files were changed. A key that others may read is refused.
func (c *certificate) times() ([2]time.Time, error) {
	var times [2]time.Time
	for i, name := range []string{c.files.Cert, c.files.Key} {
		info, err := os.Stat(name)
		if err != nil {
			return times, fmt.Errorf("server: certificate: %w: %w", err, parley.ErrInvalid)
		}
		times[i] = info.ModTime()
		if i == 1 {
			if err := private(name, info); err != nil {
				return times, err
			}
		}
	}
	return times, nil
}

// private refuses a file with a secret that others than its owner and its group
// may read, or anybody but its owner may change.
func private(name string, info fs.FileInfo) error {
	const open = 0o037
	if mode := info.Mode().Perm(); mode&open != 0 {
		return fmt.Errorf("server: %s holds a secret and has mode %04o; allowed: 0600 or 0640: %w", name, mode, parley.ErrInvalid)
	}
	return nil
}

// certificateInterval is how often the files are looked at.
const certificateInterval = 10 * time.Second

// watch reloads the certificate when its files have changed, until ctx ends.
func (c *certificate) watch(ctx context.Context) error {
	tick := time.NewTicker(certificateInterval)
	defer tick.Stop()
	var told error
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		told = c.look(ctx, told)
	}
}

// look reloads the certificate if its files have changed. A fault is logged
// once: told is the last one.
func (c *certificate) look(ctx context.Context, told error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	times, err := c.times()
	if err == nil && times == c.read {
		return nil
	}
	if err == nil {
		err = c.reloadLocked()
	}
	switch {
	case err == nil:
		c.logger.InfoContext(ctx, "certificate reloaded", "file", c.files.Cert, "expires", c.latest.Load().Leaf.NotAfter)
	case told == nil || told.Error() != err.Error():
		c.logger.ErrorContext(ctx, "cannot reload the certificate; the old one is used", "error", err)
	}
	return err
}
