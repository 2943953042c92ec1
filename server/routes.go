package server

import (
	"cmp"
	"context"
	"net"
	"net/http"
	"net/http/pprof"
	"net/url"
	"strings"

	"github.com/parley-im/parley/internal/httpapi"
	"github.com/parley-im/parley/internal/protocol/gobbler"
)

// The paths that are not settings.
const (
	nativePath = "/v1/rpc"
	readyPath  = "/admin/readycheck"
	debugPath  = "/admin/debug"
	routerPath = "/admin/router"
	docsPath   = "/v1/docs"
)

// guard decides who may call a route.
type guard func(http.Handler) http.Handler

// routes are those of the clients' listener. What is an operator's business is
// there too, for programs on this machine, unless it has a listener of its own.
// ctx is that of the conversations.
func (s *Server) routes(ctx context.Context) http.Handler {
	mux := http.NewServeMux()
	s.clientRoutes(ctx, mux)
	s.probeRoutes(mux)
	mux.HandleFunc("/{$}", welcome)
	if s.cfg.HTTP.Admin == "" {
		s.adminRoutes(mux, s.operators(local))
	}
	return s.gobblerAPI().Before(s.titanBeside(ctx, mux, httpapi.Strict(mux)))
}

// welcome shows the page of the documentation to who opens the server's address
// in a browser. For programs nothing is there.
func welcome(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Vary", "Accept")
	if r.Method != http.MethodGet || !strings.Contains(r.Header.Get("Accept"), "text/html") {
		http.NotFound(w, r)
		return
	}
	http.Redirect(w, r, docsPath, http.StatusSeeOther)
}

// gobblerAPI has the Gobbler server's HTTP routes.
func (s *Server) gobblerAPI() *gobbler.API {
	return &gobbler.API{Broker: s.broker, Arriving: s.arriving, Logger: s.logger, Principal: s.gobblerCaller, Denied: s.denied, Spend: s.spend, Over: s.over}
}

// redirectRoutes lead from plain HTTP to TLS; only the probes of load balancers
// are answered.
func (s *Server) redirectRoutes() http.Handler {
	mux := http.NewServeMux()
	s.probeRoutes(mux)
	_, port, _ := net.SplitHostPort(s.secure.Addr().String()) // a listener's address has a port
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		host, _, err := net.SplitHostPort(r.Host)
		if err != nil {
			host = strings.Trim(r.Host, "[]")
		}
		to := url.URL{Scheme: "https", Host: net.JoinHostPort(host, port), Path: r.URL.Path, RawPath: r.URL.RawPath, RawQuery: r.URL.RawQuery}
		if port == "443" {
			to.Host = strings.TrimSuffix(to.Host, ":443")
		}
		w.Header().Set("Location", to.String())
		http.Error(w, "this server speaks HTTPS: "+to.String(), http.StatusPermanentRedirect)
	})
	return mux
}

// operatorRoutes are those of the operators' own listener.
func (s *Server) operatorRoutes() http.Handler {
	mux := http.NewServeMux()
	s.probeRoutes(mux)
	s.adminRoutes(mux, s.operators(anywhere))
	mux.HandleFunc("/{$}", welcome)
	return httpapi.Strict(mux)
}

// clientRoutes are what clients use.
func (s *Server) clientRoutes(ctx context.Context, mux *http.ServeMux) {
	mux.Handle(nativePath, s.upgrade(ctx, s.nativeDialect()))
	s.api.Register(mux)
	s.textoRoutes(ctx, mux)
	if !s.cfg.HTTP.Gobbler {
		return
	}
	for _, prefix := range s.cfg.HTTP.GobblerPrefixes {
		spoken, _ := gobbler.ParseDialect(cmp.Or(prefix.Dialect, s.cfg.HTTP.GobblerDialect)) // was validated
		mux.Handle(prefix.Path, s.upgrade(ctx, s.gobblerDialect(spoken)))
		mux.Handle(strings.TrimSuffix(prefix.Path, "/"), http.RedirectHandler(prefix.Path, http.StatusMovedPermanently))
	}
}

// probeRoutes tell anybody whether the server is well.
func (s *Server) probeRoutes(mux *http.ServeMux) {
	if path := s.cfg.HTTP.Health; path != "" {
		mux.Handle("GET "+path, httpapi.Health(s.checks()...))
	}
	mux.Handle("GET "+readyPath, httpapi.Health(s.readiness()))
}

// adminRoutes are an operator's business.
func (s *Server) adminRoutes(mux *http.ServeMux, may guard) {
	if path := s.cfg.HTTP.Prometheus; path != "" {
		mux.Handle("GET "+path, may(s.metricsHandler()))
	}
	if path := s.cfg.HTTP.Metrics; path != "" {
		mux.Handle("GET "+path, may(http.HandlerFunc(s.oldMetrics)))
	}
	if path := s.cfg.HTTP.Toggles; path != "" {
		s.toggles.routes(mux, path, may)
	}
	s.gobblerAPI().RegisterRouter(mux, routerPath, may)
	mux.Handle("GET "+varsPath, may(http.HandlerFunc(s.vars)))
	s.api.RegisterOperator(mux, may)
	backup := httpapi.Backup{Write: s.backup, Logger: s.logger}
	backup.Register(mux, may)
	for path, profile := range map[string]http.HandlerFunc{
		"": pprof.Index, "cmdline": http.NotFound, "profile": pprof.Profile, "symbol": pprof.Symbol, "trace": pprof.Trace,
	} {
		mux.Handle("GET "+debugPath+"/pprof/"+path, may(http.StripPrefix("/admin", profile)))
	}
}
