package server

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/parley-im/parley/internal/httpapi"
)

// How long a plain request may take. The profiles of pprof take half a minute.
const (
	readTimeout  = 30 * time.Second
	writeTimeout = 90 * time.Second
)

// The paths that are not settings.
const (
	nativePath = "/v1/rpc"
	readyPath  = "/admin/readycheck"
	topicsPath = "/admin/topics"
	debugPath  = "/admin/debug"
)

// newHTTP is the server of all routes. ctx is that of the conversations.
func (s *Server) newHTTP(ctx context.Context) *http.Server {
	var protocols http.Protocols
	protocols.SetHTTP1(true) // a WebSocket needs HTTP/1.1
	return &http.Server{
		Handler:           s.guard(http.NewCrossOriginProtection().Handler(s.routes(ctx))),
		Protocols:         &protocols,
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(s.logger.Handler(), slog.LevelDebug),
	}
}

func (s *Server) routes(ctx context.Context) http.Handler {
	mux := http.NewServeMux()
	mux.Handle(nativePath, s.upgrade(ctx, s.nativeDialect()))
	prefix := s.cfg.HTTP.GobblerPrefix
	mux.Handle(prefix, s.upgrade(ctx, s.gobblerDialect()))
	mux.Handle(strings.TrimSuffix(prefix, "/"), http.RedirectHandler(prefix, http.StatusMovedPermanently))
	if path := s.cfg.HTTP.Health; path != "" {
		mux.Handle("GET "+path, httpapi.Health(s.checks()...))
	}
	mux.Handle("GET "+readyPath, httpapi.Health(s.readiness()))
	if path := s.cfg.HTTP.Prometheus; path != "" {
		mux.Handle("GET "+path, s.metricsHandler())
	}
	topics := httpapi.Topics{Log: s.store, Broker: s.broker, Logger: s.logger}
	topics.Register(mux, local)
	for path, profile := range map[string]http.HandlerFunc{
		"": pprof.Index, "cmdline": http.NotFound, "profile": pprof.Profile, "symbol": pprof.Symbol, "trace": pprof.Trace,
	} {
		mux.Handle("GET "+debugPath+"/pprof/"+path, local(http.StripPrefix("/admin", profile)))
	}
	return mux
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
func (s *Server) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer s.survive(r.Context(), func() {
			http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
		})
		if err := s.policy.CheckHost(r.Host); err != nil {
			s.count.refused("host")
			http.Error(w, err.Error(), http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// local serves programs on this machine only. A request that a proxy passed on
// is not from this machine, whatever its address says.
func local(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, err := net.SplitHostPort(r.RemoteAddr)
		addr, err2 := netip.ParseAddr(host)
		forwarded := r.Header.Get("Forwarded") + r.Header.Get("X-Forwarded-For") + r.Header.Get("Via")
		if err != nil || err2 != nil || !addr.Unmap().IsLoopback() || forwarded != "" {
			http.Error(w, "only for this machine", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}
