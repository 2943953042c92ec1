package wire

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/gobwas/ws"
)

const (
	handshakeTime = 10 * time.Second
	keyBytes      = 16
)

// refusal is why a request does not become a WebSocket.
type refusal struct {
	status int
	reason string // empty: the status says it all
}

func (r *refusal) Error() string {
	if r.reason == "" {
		return http.StatusText(r.status)
	}
	return r.reason
}

// Upgrade makes a WebSocket of an HTTP request, or answers it with an error
// status: 400 for a request that is no upgrade or a malformed one, 403 for one
// that cfg.Policy refuses, 405, and 426 for another version of the protocol. An
// upgrade that says HTTP/1.0 is accepted, for there are proxies that say so.
// Extensions are not agreed to, but compression if cfg says so.
//
// The caller should leave its http.Handler and use the connection in another
// goroutine: as long as the handler runs, net/http keeps the request and its
// buffers.
func Upgrade(rw http.ResponseWriter, r *http.Request, cfg *Config) (*WebSocket, error) {
	clean, err := checkUpgrade(r, cfg)
	var extension string
	if err == nil && cfg.Compression {
		extension, err = agreeToDeflate(r.Header)
	}
	if err != nil {
		refuse(rw, err, cfg)
		return nil, err
	}
	upgrader := ws.HTTPUpgrader{
		Timeout:  handshakeTime,
		Protocol: func(string) bool { return true }, // clean has the one agreed to
	}
	if extension != "" {
		upgrader.Header = http.Header{extensionHeader: {extension}}
	}
	conn, buffered, _, err := upgrader.Upgrade(clean, rw)
	if err != nil {
		if conn != nil {
			_ = conn.Close()
		}
		return nil, fmt.Errorf("wire: upgrade: %w", err)
	}
	// Frames may already have come behind the request.
	early, err := buffered.Peek(buffered.Reader.Buffered())
	if err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("wire: upgrade: %w", err)
	}
	w := newWebSocket(conn, cfg, nil, early)
	w.agreed, w.deflate = clean.Header.Get("Sec-WebSocket-Protocol"), extension != ""
	return w, nil
}

// IsUpgrade reports whether r asks for a WebSocket at all.
func IsUpgrade(r *http.Request) bool {
	return r.Method == http.MethodGet && hasToken(r.Header, "Upgrade", "websocket") && hasToken(r.Header, "Connection", "upgrade")
}

// checkUpgrade checks the handshake (RFC 6455 section 4.2.1) and returns a
// request with only what was checked in it.
func checkUpgrade(r *http.Request, cfg *Config) (*http.Request, error) {
	if r.Method != http.MethodGet {
		return nil, &refusal{status: http.StatusMethodNotAllowed}
	}
	if !hasToken(r.Header, "Upgrade", "websocket") || !hasToken(r.Header, "Connection", "upgrade") {
		return nil, &refusal{status: http.StatusBadRequest}
	}
	if err := cfg.Check(r); err != nil {
		return nil, &refusal{http.StatusForbidden, err.Error()}
	}
	key, version := r.Header.Values("Sec-WebSocket-Key"), r.Header.Values("Sec-WebSocket-Version")
	switch {
	case r.ProtoMajor != 1:
		return nil, &refusal{http.StatusBadRequest, "a WebSocket needs HTTP/1.1"}
	case r.ContentLength != 0 || len(r.TransferEncoding) > 0:
		return nil, &refusal{http.StatusBadRequest, "an upgrade request has no body"}
	case r.Host == "":
		return nil, &refusal{http.StatusBadRequest, "there is no Host"}
	case len(version) == 1 && version[0] != "13":
		return nil, &refusal{http.StatusUpgradeRequired, "Sec-WebSocket-Version must be 13"}
	case len(version) != 1:
		return nil, &refusal{http.StatusBadRequest, "there must be one Sec-WebSocket-Version"}
	case len(key) != 1 || !isKey(key[0]):
		return nil, &refusal{http.StatusBadRequest, "there must be one Sec-WebSocket-Key of 16 bytes in base64"}
	}
	clean := &http.Request{
		Method: http.MethodGet, Host: r.Host, ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{
			"Upgrade":               {"websocket"},
			"Connection":            {"Upgrade"},
			"Sec-Websocket-Key":     key,
			"Sec-Websocket-Version": version,
		},
	}
	for _, p := range tokens(r.Header, "Sec-WebSocket-Protocol") {
		if slices.Contains(cfg.Subprotocols, p) || cfg.AnySubprotocol && isToken(p) {
			clean.Header.Set("Sec-WebSocket-Protocol", p)
			break
		}
	}
	return clean, nil
}

// refuse answers a request that checkUpgrade refused.
func refuse(rw http.ResponseWriter, err error, cfg *Config) {
	status := http.StatusBadRequest
	if r, ok := errors.AsType[*refusal](err); ok {
		status = r.status
	}
	if cfg.Refuse != nil {
		cfg.Refuse(rw, status, err.Error())
		return
	}
	switch status {
	case http.StatusMethodNotAllowed:
		rw.Header().Set("Allow", http.MethodGet)
	case http.StatusUpgradeRequired:
		rw.Header().Set("Sec-WebSocket-Version", "13")
		rw.Header().Set("Upgrade", "websocket")
		rw.Header().Set("Connection", "Upgrade")
	}
	http.Error(rw, err.Error(), status)
}

func isKey(s string) bool {
	key, err := base64.StdEncoding.DecodeString(s)
	return err == nil && len(key) == keyBytes
}

// tokens are the elements of a header that is a comma-separated list, which may
// be spread over several lines.
func tokens(h http.Header, name string) []string {
	var all []string
	for _, line := range h.Values(name) {
		for token := range strings.SplitSeq(line, ",") {
			all = append(all, strings.TrimSpace(token))
		}
	}
	return all
}

func hasToken(h http.Header, name, want string) bool {
	return slices.ContainsFunc(tokens(h, name), func(token string) bool { return strings.EqualFold(token, want) })
}

// isToken reports whether s is a word that a header may name (RFC 9110 section
// 5.6.2), of a length that a name has.
func isToken(s string) bool {
	const longest = 64
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("!#$%&'*+-.^_`|~", r)
	}
	return s != "" && len(s) <= longest && !strings.ContainsFunc(s, func(r rune) bool { return !plain(r) })
}
