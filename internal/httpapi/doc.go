// Package httpapi is Parley over plain HTTP: publishing, reading and looking
// after topics under /v1, and the health checks. All that is served under /v1 is
// one table of routes, from which the mux and the OpenAPI document are made, so
// that they cannot drift apart. Errors are problem details (RFC 9457) with the
// members "kind" and "code", which mean what they mean in the native protocol.
package httpapi
