package account

// CredentialKind says what a client shows to prove who it is.
type CredentialKind int

// The kinds of credential.
const (
	Token       CredentialKind = iota + 1 // a JWT that a configured key verifies
	IDToken                               // an ID token of an OpenID Connect issuer
	APIKey                                // one of this server's API keys
	Claim                                 // nothing but a name; accepted in open mode only
	Certificate                           // the TLS connection's client certificate, verified by the handshake
)

// Credential is what a client shows, and what it says of itself. Secret is never
// logged.
type Credential struct {
	Kind CredentialKind
	// Secret is the token or key.
	Secret string
	// Issuer names the OpenID Connect provider of an ID token, such as "google";
	// empty lets the token's iss decide.
	Issuer string
	// User is who a Claim claims to be.
	User string
	// Device names the installation; where the credential names one, they must be
	// the same. DeviceName and Platform are for people to read.
	Device, DeviceName, Platform string
	// Certificate is the client's, DER, of a handshake that verified it.
	Certificate []byte
	// WantCertificate asks for a client certificate with what an ID token brings.
	WantCertificate bool
}

// Login is what came of showing a credential.
type Login struct {
	Principal *Principal
	// Profile is set after signing in with an OpenID Connect provider.
	Profile *Profile
	// Token is a new token of this server for the user, when one was issued.
	Token string
	// Certificate and Key are PEM, when a client certificate was issued.
	Certificate, Key []byte
}

// Profile is what a provider says of a user.
type Profile struct {
	Name, Email string
	Picture     []byte // an image; nil when there is none or it could not be had
	Verified    bool   // the e-mail
}
