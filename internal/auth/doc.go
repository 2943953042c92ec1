// Package auth finds out who a credential proves. [Authenticator.Verify] takes
// what a client shows: a token (JWT), an ID token of an OpenID Connect provider,
// an API key, a client certificate of this server's own CA, or, in open mode, a
// name. It judges the credential alone, and then asks the directory of users,
// which knows who is suspended, what is revoked, and what a user may do.
//
// # Tokens
//
// A token is judged in this order, and nothing that it says is used earlier than
// the order allows:
//
//  1. Its size, three segments, and canonical base64.
//  2. Its header, strict JSON: the algorithm and the key's id choose among the
//     configured keys, and do nothing else. Each key has its algorithms pinned, so
//     that a token cannot choose how it is checked.
//  3. The signature.
//  4. The claims, strict JSON, by the rules of the key that verified it: the
//     issuer, the audience, the times. Only then, who it is.
//
// Keys are configured, or fetched from configured URLs by [Authenticator.Run]:
// verifying never fetches by itself, it at most asks Run for it, and waits. So
// however many clients come at once, there is one request.
//
// Every refusal is an [Error]. It reads the same whatever the reason, which
// stands apart for the audit log.
package auth
