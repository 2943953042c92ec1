package server

import (
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/parley-im/parley/internal/httpapi"
	"github.com/parley-im/parley/internal/wire"
)

// How long a plain request may take. The profiles of pprof take half a minute.
const (
	readTimeout  = 30 * time.Second
	writeTimeout = 90 * time.Second
)

// admission says which hosts and which origins are served: see wire.Policy.
type admission interface {
	Check(r *http.Request) error
	CheckHost(host string) error
}

// newHTTP is a server of routes, for the hosts and the pages that are admitted.
func (s *Server) newHTTP(admits admission, routes http.Handler) *http.Server {
	var protocols http.Protocols
	protocols.SetHTTP1(true) // a WebSocket needs HTTP/1.1
	return &http.Server{
		Handler:           takeCredential(s.guard(admits.CheckHost, sameOrigin(admits, routes))),
		Protocols:         &protocols,
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(s.logger.Handler(), slog.LevelDebug),
	}
}

// sameOrigin refuses what a page of another origin would change, unless that
// origin is admitted.
func sameOrigin(admits admission, next http.Handler) http.Handler {
	protection := http.NewCrossOriginProtection()
	protection.SetDenyHandler(http.HandlerFunc(httpapi.CrossOrigin))
	protected := protection.Handler(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		safe := r.Method == http.MethodGet || r.Method == http.MethodHead || r.Method == http.MethodOptions
		switch origin := r.Header.Get("Origin"); {
		case origin != "" && admits.Check(r) == nil:
			next.ServeHTTP(w, r)
		case origin != "" && !safe && r.Header.Get("Sec-Fetch-Site") == "":
			// The protection would compare the host alone, and pass over what no
			// browser says: a user's name before it, a path behind it.
			httpapi.CrossOrigin(w, r)
		default:
			protected.ServeHTTP(w, r)
		}
	})
}

// metricsHandler serves a registry of this server's own.
func (s *Server) metricsHandler() http.Handler {
	registry := prometheus.NewRegistry()
	s.register(registry)
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		ErrorLog:            slog.NewLogLogger(s.logger.Handler(), slog.LevelWarn),
		ErrorHandling:       promhttp.ContinueOnError,
		MaxRequestsInFlight: 4,
	})
}

// guard refuses requests for a Host that is not this machine while the server is
// for this machine only (see wire.Policy), and keeps a panic from costing more
// than its request.
func (s *Server) guard(checkHost func(string) error, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer s.survive(r.Context(), func() {
			http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
		})
		w.Header().Set("X-Content-Type-Options", "nosniff")
		if err := checkHost(r.Host); err != nil {
			s.count.refused("host")
			http.Error(w, err.Error(), http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// local reports whether a request comes from a program on this machine. One that
// a proxy passed on does not, whatever its address says; nor does one for another
// Host, which a page of a stranger's in a browser here can have sent, whose name
// leads to 127.0.0.1 now.
func local(r *http.Request) bool {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	addr, err2 := netip.ParseAddr(host)
	here := wire.Policy{Open: true}
	return err == nil && err2 == nil && addr.Unmap().IsLoopback() && !forwarded(r.Header) && here.CheckHost(r.Host) == nil
}

// onlyHere serves programs on this machine only.
func onlyHere(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !local(r) {
			http.Error(w, "only for this machine", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// forwarded reports whether a proxy has passed a request on. What the headers
// say does not matter: a client that sends an empty one before the proxy's own
// must not hide that.
func forwarded(h http.Header) bool {
	for name := range h {
		switch {
		case strings.HasPrefix(name, "X-Forwarded"), strings.HasPrefix(name, "X-Original-"), strings.HasPrefix(name, "X-Envoy-"):
			return true
		case slices.Contains([]string{
			"Forwarded", "Via", "X-Real-Ip", "Client-Ip", "X-Client-Ip", "X-Cluster-Client-Ip", "True-Client-Ip",
			"Cf-Connecting-Ip", "Fastly-Client-Ip", "X-Azure-Clientip",
		}, name):
			return true
		}
	}
	return false
}
