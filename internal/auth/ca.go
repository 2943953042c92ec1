package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"time"

	"github.com/parley-im/parley"
)

// The files of a CA. The root's key is only needed to make the intermediate's
// certificate: it can be kept elsewhere.
const (
	RootFile            = "root.crt"
	RootKeyFile         = "root.key"
	IntermediateFile    = "intermediate.crt"
	IntermediateKeyFile = "intermediate.key"
)

// How long the certificates of the CA itself hold.
const (
	rootTTL         = 20 * 365 * 24 * time.Hour
	intermediateTTL = 10 * 365 * 24 * time.Hour
)

// rsaBits is the size of RSA keys that are made.
const rsaBits = 3072

// CA is a certificate authority of two levels: a root, and an intermediate that
// issues certificates for clients and servers. It may be used concurrently.
type CA struct {
	root, intermediate *x509.Certificate
	key                crypto.Signer // the intermediate's; nil when it only verifies
	pool               *x509.CertPool
	turn               chan struct{} // one at a time makes an RSA key, which takes long
}

// Init says how a new CA is made.
type Init struct {
	// Name is part of the names of its certificates; empty is "Parley".
	Name string
	// RSA makes RSA keys, for old clients, instead of ECDSA on P-256.
	RSA bool
	Now time.Time
}

// InitCA makes a new CA in a directory, which is created, with mode 0700, if need
// be. The error wraps parley.ErrConflict when there is one already.
func InitCA(dir string, o Init) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("auth: ca: %w", err)
	}
	for _, name := range caFiles() {
		if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
			return fmt.Errorf("auth: ca: there is %s already: %w", filepath.Join(dir, name), parley.ErrConflict)
		}
	}
	if o.Name == "" {
		o.Name = "Parley"
	}
	rootKey, err := newKey(o.RSA)
	if err != nil {
		return err
	}
	key, err := newKey(o.RSA)
	if err != nil {
		return err
	}
	root, err := sign(caTemplate(o.Name+" root CA", o.Now, rootTTL), nil, rootKey.Public(), rootKey)
	if err != nil {
		return err
	}
	template := caTemplate(o.Name+" intermediate CA", o.Now, intermediateTTL)
	template.MaxPathLenZero = true
	intermediate, err := sign(template, root, key.Public(), rootKey)
	if err != nil {
		return err
	}
	// The certificates come last: with them there, it is complete.
	for _, file := range []struct {
		name string
		text func() ([]byte, error)
	}{
		{RootKeyFile, func() ([]byte, error) { return keyPEM(rootKey) }},
		{IntermediateKeyFile, func() ([]byte, error) { return keyPEM(key) }},
		{RootFile, func() ([]byte, error) { return certificatePEM(root), nil }},
		{IntermediateFile, func() ([]byte, error) { return certificatePEM(intermediate), nil }},
	} {
		text, err := file.text()
		if err == nil {
			err = createFile(filepath.Join(dir, file.name), text, 0o600)
		}
		if err != nil {
			return fmt.Errorf("auth: ca: %w", err)
		}
	}
	return nil
}

func caFiles() []string {
	return []string{RootFile, RootKeyFile, IntermediateFile, IntermediateKeyFile}
}

func caTemplate(name string, now time.Time, ttl time.Duration) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: newSerial(), Subject: pkix.Name{CommonName: name},
		NotBefore: now, NotAfter: now.Add(ttl),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true, IsCA: true,
	}
}

// OpenCA reads a CA. Without the intermediate's key it verifies, but does not
// issue. The error wraps parley.ErrInvalid when the files are no CA, and when
// others may read the key.
func OpenCA(dir string) (*CA, error) {
	c := &CA{pool: x509.NewCertPool(), turn: make(chan struct{}, 1)}
	var err error
	if c.root, err = readCertificate(filepath.Join(dir, RootFile)); err != nil {
		return nil, err
	}
	if c.intermediate, err = readCertificate(filepath.Join(dir, IntermediateFile)); err != nil {
		return nil, err
	}
	if err := c.intermediate.CheckSignatureFrom(c.root); err != nil {
		return nil, fmt.Errorf("auth: ca: the root has not signed the intermediate: %w: %w", err, parley.ErrInvalid)
	}
	c.pool.AddCert(c.intermediate)
	text, err := ReadSecretFile(filepath.Join(dir, IntermediateKeyFile))
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return nil, fmt.Errorf("auth: ca: %w", err)
	}
	if c.key, err = parseKey(text); err != nil {
		return nil, fmt.Errorf("auth: ca: %s: %w: %w", IntermediateKeyFile, err, parley.ErrInvalid)
	}
	if !equal(c.intermediate.PublicKey, c.key.Public()) {
		return nil, fmt.Errorf("auth: ca: %s is not the key of %s: %w", IntermediateKeyFile, IntermediateFile, parley.ErrInvalid)
	}
	return c, nil
}

// Issues reports whether the CA has its key.
func (c *CA) Issues() bool { return c.key != nil }

// Pool is what certificates of clients chain to, for a TLS listener.
func (c *CA) Pool() *x509.CertPool { return c.pool.Clone() }

// Intermediate is the certificate, PEM, of what signs those of clients.
func (c *CA) Intermediate() []byte { return certificatePEM(c.intermediate) }

// Expires is when the CA's own certificates end.
func (c *CA) Expires() time.Time {
	if c.root.NotAfter.Before(c.intermediate.NotAfter) {
		return c.root.NotAfter
	}
	return c.intermediate.NotAfter
}

func readCertificate(name string) (*x509.Certificate, error) {
	text, err := readSmall(name)
	if err != nil {
		return nil, fmt.Errorf("auth: ca: %w", err)
	}
	c, err := parseCertificate(text)
	if err != nil {
		return nil, fmt.Errorf("auth: ca: %s: %w", name, err)
	}
	return c, nil
}

func parseCertificate(text []byte) (*x509.Certificate, error) {
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, fmt.Errorf("it is no certificate in PEM: %w", parley.ErrInvalid)
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", err, parley.ErrInvalid)
	}
	return c, nil
}

// newSerial is 128 random bits.
func newSerial() *big.Int {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[0] |= 0x40           // so that all are of one length
	return new(big.Int).SetBytes(b[:])
}

func newKey(ofRSA bool) (crypto.Signer, error) {
	var key crypto.Signer
	var err error
	if ofRSA {
		key, err = rsa.GenerateKey(rand.Reader, rsaBits)
	} else {
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	if err != nil {
		return nil, fmt.Errorf("auth: a new key: %w", err)
	}
	return key, nil
}

// keyPEM writes RSA keys in PKCS#1, the one form that old clients read, and
// others in PKCS#8.
func keyPEM(key crypto.Signer) ([]byte, error) {
	if k, ok := key.(*rsa.PrivateKey); ok {
		return pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(k)}), nil
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

func parseKey(text []byte) (crypto.Signer, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("it is no key in PEM")
	}
	switch block.Type {
	case "RSA PRIVATE KEY":
		return x509.ParsePKCS1PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		return x509.ParseECPrivateKey(block.Bytes)
	case "PRIVATE KEY":
		key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		if err != nil {
			return nil, err
		}
		if s, ok := key.(crypto.Signer); ok {
			return s, nil
		}
	}
	return nil, fmt.Errorf("a %.40q cannot sign", block.Type)
}

func certificatePEM(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}

// sign makes a certificate; without a parent it signs itself.
func sign(template, parent *x509.Certificate, public crypto.PublicKey, by crypto.Signer) (*x509.Certificate, error) {
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, by)
	if err != nil {
		return nil, fmt.Errorf("auth: the certificate cannot be made: %w", err)
	}
	return x509.ParseCertificate(der)
}
