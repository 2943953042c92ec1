// Package security has tests that attack a whole server, one for each rule that
// docs/security.md states. It has no code of its own.
package security
