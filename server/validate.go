package server

import (
	"net"
	"net/netip"
	"strings"
)

// Validate checks the whole configuration. The error is a *ConfigError that
// lists all faults.
func (c *Config) Validate() error {
	if faults := c.faults(); len(faults) > 0 {
		return &ConfigError{Faults: faults}
	}
	return nil
}

// faults checks every setting, and then what one setting alone cannot show.
func (c *Config) faults() []Fault {
	var faults []Fault
	add := func(key, problem string) { faults = append(faults, Fault{Key: key, Problem: problem}) }
	for _, s := range Settings() {
		for _, err := range s.check(c) {
			add(s.Key, s.problem(err))
		}
	}
	c.listenFaults(add)
	paths := make(map[string]string)
	for _, e := range []struct{ key, path string }{
		{"health-endpoint", c.HTTP.Health},
		{"prometheus-endpoint", c.HTTP.Prometheus},
		{"metrics-endpoint", c.HTTP.Metrics},
		{"toggles-endpoint", c.HTTP.Toggles},
		{"texto", c.Texto.Path},
	} {
		if other := paths[e.path]; e.path != "" && other != "" {
			add(e.key, quote(e.path)+" is the path of "+other+" too")
		}
		for _, p := range c.HTTP.GobblerPrefixes {
			if c.HTTP.Gobbler && below(e.path, strings.TrimSuffix(p.Path, "/")) {
				add(e.key, quote(e.path)+" is within ws-prefix")
			}
		}
		paths[e.path] = e.key
	}
	c.prefixFaults(add)
	c.textoFaults(add)
	if c.Limits.PublishQueue < c.Limits.Message {
		add("publish-queue", FormatSize(c.Limits.PublishQueue)+" is less than one message of max-message, "+FormatSize(c.Limits.Message))
	}
	seen := make(map[string]bool)
	for _, r := range c.Retention {
		if seen[string(r.Stream)] {
			add("retention", "two rules for "+quote(string(r.Stream)))
		}
		seen[string(r.Stream)] = true
	}
	return faults
}

// prefixFaults finds two prefixes of the Gobbler protocol with one path.
func (c *Config) prefixFaults(add func(key, problem string)) {
	seen := make(map[string]bool)
	for _, p := range c.HTTP.GobblerPrefixes {
		if seen[p.Path] {
			add("ws-prefix", "two prefixes "+quote(p.Path))
		}
		seen[p.Path] = true
	}
}

// listenFaults checks where the server listens, and for whom.
func (c *Config) listenFaults(add func(key, problem string)) {
	h := &c.HTTP
	const anybody = " is wider than loopback, and without authentication anybody who reaches it may publish and read everything; " +
		"allowed: a loopback address such as 127.0.0.1:8080, the same with authentication (--auth, --jwt-key, …), or with --open-to-network " +
		"(in a container PARLEY_OPEN_TO_NETWORK=true, and publish the port on 127.0.0.1 only)"
	const readable = " is wider than loopback, and without TLS credentials and messages can be read on the way; " +
		"allowed: --https with a certificate, or --plain-to-network behind a proxy that has one"
	wide := h.TLS.Listen == "" && h.Listen != "" && !loopback(h.Listen)
	switch {
	case wide && !h.OpenToNetwork && !c.authenticates():
		add("http", quote(h.Listen)+anybody)
	case wide && !h.OpenToNetwork && !h.PlainToNetwork:
		add("http", quote(h.Listen)+readable)
	}
	if h.TLS.Listen != "" && !h.OpenToNetwork && !c.authenticates() && !loopback(h.TLS.Listen) {
		add("https", quote(h.TLS.Listen)+anybody)
	}
	if h.Admin != "" && !h.AdminOpen && !loopback(h.Admin) {
		add("admin-listen", quote(h.Admin)+" is wider than loopback, and without authentication anybody who reaches it may look at everything and purge; "+
			"allowed: a loopback address such as 127.0.0.1:9090, or the same with --admin-open-to-network")
	}
	switch {
	case h.TLS.Listen == "" && h.Listen == "":
		add("http", "is empty, and so is https: there is nowhere to listen")
	case h.TLS.Listen != "" && len(h.TLS.ACME.Domains) == 0 && (h.TLS.Cert == "" || h.TLS.Key == ""):
		add("https", "needs --tls-cert and --tls-key, or --acme-domain")
	case h.TLS.Listen == "" && h.TLS.Cert+h.TLS.Key != "" && c.Titan.Devastator == "":
		add("tls-cert", "is not used without --https HOST:PORT")
	}
	c.acmeFaults(add)
	c.titanFaults(add)
}

// loopback reports whether only this machine reaches a listener there. A name
// other than localhost is not looked up: what it means may change.
func loopback(listen string) bool {
	host, _, err := net.SplitHostPort(listen)
	if err != nil {
		return false
	}
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}
