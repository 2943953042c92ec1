package auth

import (
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/account"
)

// Request says which certificate to issue.
type Request struct {
	// User is whose client certificate it will be. Device is empty, and the
	// certificate's serial is a new device; or the device of one that is renewed.
	User, Device string
	// Hosts, names and IP addresses, ask for a server's certificate instead.
	Hosts []string
	// TTL is how long it holds, but not longer than the CA.
	TTL time.Duration
	// RSA makes an RSA key of 3,072 bits, which takes a second, instead of ECDSA
	// on P-256.
	RSA bool
	Now time.Time
}

// Made is a new certificate.
type Made struct {
	// Certificate and Key are PEM. That of a server is followed by the
	// intermediate's.
	Certificate, Key []byte
	Record           account.CertificateRecord
}

// maxCommonName is the bound of X.520, beyond which other programs refuse a name.
const maxCommonName = 64

// Issue makes a certificate and its key. It writes nothing down. One at a time
// makes an RSA key; who waits does so until ctx ends. The error wraps
// parley.ErrInvalid, or parley.ErrUnavailable when the CA has no key.
func (c *CA) Issue(ctx context.Context, r Request) (*Made, error) {
	if !c.Issues() {
		return nil, fmt.Errorf("auth: ca: the key %s is not here: %w", IntermediateKeyFile, parley.ErrUnavailable)
	}
	template, err := c.template(&r)
	if err != nil {
		return nil, err
	}
	if r.RSA {
		select {
		case c.turn <- struct{}{}:
			defer func() { <-c.turn }()
		case <-ctx.Done():
			return nil, fmt.Errorf("auth: ca: %w: %w", context.Cause(ctx), parley.ErrUnavailable)
		}
	}
	key, err := newKey(r.RSA)
	if err != nil {
		return nil, err
	}
	made, err := sign(template, c.intermediate, key.Public(), c.key)
	if err != nil {
		return nil, err
	}
	text, err := keyPEM(key)
	if err != nil {
		return nil, err
	}
	m := &Made{
		Certificate: certificatePEM(made), Key: text,
		Record: account.CertificateRecord{Serial: serial(made), User: template.Subject.CommonName, Issued: made.NotBefore, Expires: made.NotAfter},
	}
	if len(r.Hosts) > 0 {
		m.Certificate = append(m.Certificate, certificatePEM(c.intermediate)...)
	}
	return m, nil
}

// template is the certificate without its key.
func (c *CA) template(r *Request) (*x509.Certificate, error) {
	if r.TTL < time.Second || r.TTL > maxTTL {
		return nil, fmt.Errorf("auth: a certificate holds for a second to ten years, not %s: %w", r.TTL, parley.ErrInvalid)
	}
	until := r.Now.Add(r.TTL)
	if end := c.Expires(); until.After(end) {
		until = end
	}
	if !until.After(r.Now) {
		return nil, fmt.Errorf("auth: ca: it expired at %s: %w", until.Format(time.RFC3339), parley.ErrUnavailable)
	}
	t := &x509.Certificate{
		SerialNumber: newSerial(), NotBefore: r.Now, NotAfter: until,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
	}
	if r.RSA {
		t.KeyUsage |= x509.KeyUsageKeyEncipherment
	}
	if len(r.Hosts) > 0 {
		return t, serverTemplate(t, r.Hosts)
	}
	user, err := parley.ParseUser(r.User)
	if err != nil {
		return nil, err
	}
	if len(user) > maxCommonName {
		return nil, fmt.Errorf("auth: a certificate's name has at most %d bytes: %w", maxCommonName, parley.ErrInvalid)
	}
	t.Subject = pkix.Name{CommonName: user}
	if r.Device != "" {
		if t.Subject.SerialNumber, err = parley.ParseDevice(r.Device); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// serverTemplate turns a template into that of a server. Old clients want it to
// be one for clients too; verify knows the difference.
func serverTemplate(t *x509.Certificate, hosts []string) error {
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
			continue
		}
		if host == "" || len(host) > 253 {
			return fmt.Errorf("auth: %.60q is neither a host's name nor an address: %w", host, parley.ErrInvalid)
		}
		t.DNSNames = append(t.DNSNames, host)
	}
	t.Subject = pkix.Name{CommonName: hosts[0]}
	return nil
}

// Holder is who a client certificate proves.
type Holder struct {
	User, Device, Serial string
	Issued, Expires      time.Time
}

// maxCertificate bounds a client's certificate, in bytes of DER.
const maxCertificate = 16 << 10

// Verify tells who holds a client certificate of this CA, DER, that is valid at
// that time. Whether it is revoked knows the directory; whether the client has
// its key, the TLS handshake. The error wraps parley.ErrUnauthenticated.
func (c *CA) Verify(der []byte, now time.Time) (Holder, error) {
	if len(der) == 0 || len(der) > maxCertificate {
		return Holder{}, refuse("there is no certificate of at most %d bytes", maxCertificate)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return Holder{}, refuse("the certificate cannot be read")
	}
	if _, err := cert.Verify(x509.VerifyOptions{
		Roots: c.pool, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}); err != nil {
		return Holder{}, refuse("the certificate is not accepted: %s", reason(err))
	}
	// A server's certificate is for clients as well, and its name is a host's.
	if cert.IsCA || slices.Contains(cert.ExtKeyUsage, x509.ExtKeyUsageServerAuth) || slices.Contains(cert.ExtKeyUsage, x509.ExtKeyUsageAny) {
		return Holder{}, refuse("the certificate is not a client's")
	}
	h := Holder{Serial: serial(cert), Issued: cert.NotBefore, Expires: cert.NotAfter}
	if h.User, err = parley.ParseUser(cert.Subject.CommonName); err != nil {
		return Holder{}, refuse("the certificate's common name is no user's name")
	}
	h.Device = h.Serial
	if renewed := cert.Subject.SerialNumber; renewed != "" {
		if h.Device, err = parley.ParseDevice(renewed); err != nil {
			return Holder{}, refuse("the certificate's serialNumber is no device's name")
		}
	}
	return h, nil
}

// Renew makes a new certificate, with a new key, for the holder of one, PEM, that
// this CA has issued. It may have expired. The device stays the same.
func (c *CA) Renew(ctx context.Context, old []byte, r Request) (*Made, error) {
	cert, err := parseCertificate(old)
	if err != nil {
		return nil, fmt.Errorf("auth: the old certificate: %w", err)
	}
	h, err := c.Verify(cert.Raw, cert.NotAfter)
	if err != nil {
		return nil, fmt.Errorf("auth: the old certificate: %w: %w", err, parley.ErrInvalid)
	}
	r.User, r.Device, r.Hosts = h.User, h.Device, nil
	return c.Issue(ctx, r)
}

// serial is a certificate's serial number as it is written everywhere.
func serial(c *x509.Certificate) string { return fmt.Sprintf("%x", c.SerialNumber) }

// reason is why a certificate was refused, in few words: the library's may hold
// much of the certificate.
func reason(err error) string {
	if e, ok := errors.AsType[x509.CertificateInvalidError](err); ok && e.Reason == x509.Expired {
		return "it has expired, or is not valid yet"
	} else if ok {
		return "it is not for this"
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return "it is of another authority"
	}
	return "it does not verify"
}

// verifyCertificate tells who a client certificate proves.
func (a *Authenticator) verifyCertificate(c account.Credential) (*account.Principal, error) {
	if a.ca == nil {
		return nil, errNone
	}
	h, err := a.ca.Verify(c.Certificate, a.now())
	if err != nil {
		return nil, err
	}
	device, err := sameDevice(h.Device, c.Device)
	if err != nil {
		return nil, err
	}
	return &account.Principal{
		Identity: parley.Identity{User: h.User, Device: device},
		Issued:   h.Issued, Expires: h.Expires, Credential: "cert:" + h.Serial,
	}, nil
}
