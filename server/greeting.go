package server

import (
	"cmp"
	"context"
	"fmt"
	"os"
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
	fmt.Fprintf(&b, "  HTTP API   %s, to read and to try\n", url+docsPath)
	if s.admin != nil {
		fmt.Fprintf(&b, "  operators  %s\n", s.describeAdmin())
	}
	if s.titanTest != nil {
		fmt.Fprintf(&b, "  titan test ws://%s; a token of user 1:\n%s\n", s.titanTest.Addr(), testToken())
	}
	if s.devastator != nil {
		fmt.Fprintf(&b, "  devastator %s, with TLS\n", s.devastator.Addr())
	}
	option := ""
	if url != defaultURL {
		option = " --server " + url
	}
	if !s.access.open() {
		fmt.Fprintf(&b, "try it, with \"umask 077\":\n  parley token issue%s ann --grant publish,subscribe:/hello > token\n", s.operatorOption())
		option += " --token-file token"
	} else {
		b.WriteString("try it:\n")
	}
	fmt.Fprintf(&b, "  parley sub%s /hello\n  parley pub%s /hello \"hi there\"\n", option, option)
	return b.String()
}

// operatorOption is how an operator's command finds the server.
func (s *Server) operatorOption() string {
	if s.admin != nil {
		return " --server " + s.AdminURL()
	}
	if url := s.URL(); url != defaultURL {
		return " --server " + url
	}
	return ""
}

// defaultURL is where the command's clients look for a server.
const defaultURL = "http://127.0.0.1:8080"

// announce tells the log.
func (s *Server) announce(ctx context.Context) {
	s.logger.InfoContext(ctx, "serving", "url", s.URL(), "version", version, "store", s.describeStore(), "retention", s.describeRetention())
	if s.access.open() {
		s.logger.WarnContext(ctx, "open mode", "open", s.describeOpenness())
	}
	if s.plainToNetwork() {
		s.logger.WarnContext(ctx, "credentials can be read on the way to this server, unless a proxy before it has TLS", "address", s.plain.Addr().String())
	}
	if s.cfg.textoRefused() {
		s.logger.InfoContext(ctx, "Texto is not served, because it has no login and this server asks for one; --texto-anonymous serves it to anybody")
	}
	if s.cfg.textoAnonymous() {
		s.logger.WarnContext(ctx, "open mode for Texto: anybody who reaches the server may chat without a credential")
	}
	if os.Geteuid() == 0 {
		s.logger.WarnContext(ctx, "running as root, which the server does not need: a user of its own could do less harm")
	}
	if s.cfg.HTTP.AdminOpen && s.admin != nil {
		s.logger.WarnContext(ctx, "open mode for operators", "open", s.describeAdmin())
	}
}

func (s *Server) describeStore() string {
	records := ""
	if s.store.records != s.store.DB {
		records = "; the server's records are in " + cmp.Or(s.cfg.Storage.Records, s.cfg.Storage.Kind)
		if s.cfg.Storage.Records == StorageFile {
			records += " " + s.cfg.Storage.Path
		}
	}
	if s.store.dir == "" {
		return "in memory: messages are lost when the server stops" + records
	}
	return s.store.dir + records
}

func (s *Server) describeRetention() string {
	rules := make([]string, len(s.config().Retention))
	everything := false
	for i, r := range s.config().Retention {
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

func (s *Server) describeAdmin() string {
	if s.cfg.HTTP.AdminOpen {
		return "NO AUTHENTICATION: anybody who reaches " + s.admin.Addr().String() + " may look at everything and purge"
	}
	return s.AdminURL() + ", for programs on this machine"
}

func (s *Server) describeOpenness() string {
	if !s.access.open() {
		return "no: every client is asked for a credential"
	}
	if s.cfg.HTTP.OpenToNetwork {
		return "NO AUTHENTICATION: anybody who reaches " + s.Addr().String() + " may publish and read everything"
	}
	return "no authentication: every program on this machine may publish, read and purge; other machines may not connect"
}
