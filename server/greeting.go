package server

import (
	"context"
	"fmt"
	"strings"
)

// Greeting tells people who have just started the server where it listens, what
// it keeps, and what to try.
func (s *Server) Greeting() string {
	var b strings.Builder
	url := s.URL()
	fmt.Fprintf(&b, "parley %s listening on %s\n", version, url)
	fmt.Fprintf(&b, "  store      %s\n", s.describeStore())
	fmt.Fprintf(&b, "  retention  %s\n", s.describeRetention())
	fmt.Fprintf(&b, "  open mode  %s\n", s.describeOpenness())
	option := ""
	if url != defaultURL {
		option = " --server " + url
	}
	fmt.Fprintf(&b, "try it:\n  parley sub%s /hello\n  parley pub%s /hello \"hi there\"\n", option, option)
	return b.String()
}

// defaultURL is where the command's clients look for a server.
const defaultURL = "http://127.0.0.1:8080"

// announce tells the log.
func (s *Server) announce(ctx context.Context) {
	s.logger.InfoContext(ctx, "serving", "url", s.URL(), "version", version, "store", s.describeStore(), "retention", s.describeRetention())
	s.logger.WarnContext(ctx, "open mode", "open", s.describeOpenness())
}

func (s *Server) describeStore() string {
	if s.store.dir == "" {
		return "in memory: messages are lost when the server stops"
	}
	return s.store.dir
}

func (s *Server) describeRetention() string {
	rules := make([]string, len(s.cfg.Retention))
	everything := false
	for i, r := range s.cfg.Retention {
		rules[i] = r.String()
		everything = everything || r.Stream == everyStream
	}
	switch {
	case len(rules) == 0:
		return "topics are kept for ever; --retention changes that"
	case !everything:
		return strings.Join(rules, ", ") + "; other topics are kept for ever"
	}
	return strings.Join(rules, ", ")
}

func (s *Server) describeOpenness() string {
	if s.cfg.HTTP.OpenToNetwork {
		return "NO AUTHENTICATION: anybody who reaches " + s.Addr().String() + " may publish and read everything"
	}
	return "no authentication: every program on this machine may publish, read and purge; other machines may not connect"
}
