package server

import (
	"net"
	"net/netip"
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
			add(s.Key, err.Error())
		}
	}
	if !c.HTTP.OpenToNetwork && !loopback(c.HTTP.Listen) {
		add("http", quote(c.HTTP.Listen)+" is wider than loopback, and without authentication anybody who reaches it may publish and read everything; "+
			"allowed: a loopback address such as 127.0.0.1:8080, or the same with --open-to-network")
	}
	if c.HTTP.Admin != "" && !c.HTTP.AdminOpen && !loopback(c.HTTP.Admin) {
		add("admin-listen", quote(c.HTTP.Admin)+" is wider than loopback, and without authentication anybody who reaches it may look at everything and purge; "+
			"allowed: a loopback address such as 127.0.0.1:9090, or the same with --admin-open-to-network")
	}
	paths := make(map[string]string)
	for _, e := range []struct{ key, path string }{
		{"health-endpoint", c.HTTP.Health},
		{"prometheus-endpoint", c.HTTP.Prometheus},
		{"metrics-endpoint", c.HTTP.Metrics},
		{"toggles-endpoint", c.HTTP.Toggles},
	} {
		if other := paths[e.path]; e.path != "" && other != "" {
			add(e.key, quote(e.path)+" is the path of "+other+" too")
		}
		paths[e.path] = e.key
	}
	if c.Limits.PublishQueue < c.Limits.Message {
		add("publish-queue", formatSize(c.Limits.PublishQueue)+" is less than one message of max-message, "+formatSize(c.Limits.Message))
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
