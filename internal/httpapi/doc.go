// Package httpapi serves plain HTTP to operators: whether the server is well,
// and what its topics hold. Errors are problem details (RFC 9457) with the
// member "kind" naming one of the kinds of error in package parley.
package httpapi
