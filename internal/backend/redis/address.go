package redis

import (
	"errors"
	"net"
	"slices"
	"strconv"
	"strings"
)

// Address says where Redis is.
type Address struct {
	// Hosts are host:port, of Redis or, with a Master, of Sentinels.
	Hosts []string
	// Master is the name by which Sentinels know the server; empty without them.
	Master string
	// TLS encrypts all connections.
	TLS bool
	// User is empty for the one that has no name.
	User string
	// DB is the database. What is published reaches all of them.
	DB int
}

const (
	redisPort    = "6379"
	sentinelPort = "26379"
	// maxHosts bounds the Sentinels.
	maxHosts = 16
)

// ErrPassword is a password where it would be seen.
var ErrPassword = errors.New("holds a password, and would be shown where configurations are shown")

// ParseAddress reads
//
//	redis://[USER@]HOST[:PORT][/DB]
//	redis-sentinel://[USER@]HOST[:PORT][,HOST[:PORT]…]/MASTER[/DB]
//
// and the same with rediss instead of redis, for TLS. The error never repeats a
// password.
func ParseAddress(s string) (Address, error) {
	var a Address
	scheme, rest, ok := strings.Cut(s, "://")
	user, hosts, named := strings.Cut(rest, "@")
	if named || strings.Contains(s, "@") {
		if !named || strings.ContainsAny(user, ":/") || strings.Contains(hosts, "@") {
			return Address{}, ErrPassword
		}
		if user == "" {
			return Address{}, errors.New("has an empty user")
		}
		a.User, rest = user, hosts
	}
	sentinel := false
	switch scheme {
	case "redis":
	case "rediss":
		a.TLS = true
	case "redis-sentinel":
		sentinel = true
	case "rediss-sentinel":
		sentinel, a.TLS = true, true
	default:
		ok = false
	}
	if !ok {
		return Address{}, errors.New("is no address of Redis")
	}
	parts := strings.Split(strings.TrimSuffix(rest, "/"), "/")
	port := redisPort
	path := parts[1:]
	if sentinel {
		port = sentinelPort
		if len(path) == 0 || !plain(path[0]) {
			return Address{}, errors.New("names no master")
		}
		a.Master, path = path[0], path[1:]
	}
	var err error
	if len(path) > 1 {
		return Address{}, errors.New("has too long a path")
	}
	if len(path) == 1 {
		if a.DB, err = strconv.Atoi(path[0]); err != nil || a.DB < 0 || a.DB > 1<<16 || strconv.Itoa(a.DB) != path[0] {
			return Address{}, errors.New("has a database that is no number")
		}
	}
	a.Hosts, err = parseHosts(parts[0], port, sentinel)
	return a, err
}

// parseHosts reads one host, or several with commas between them.
func parseHosts(list, port string, several bool) ([]string, error) {
	hosts := strings.Split(list, ",")
	if len(hosts) > 1 && !several || len(hosts) > maxHosts {
		return nil, errors.New("has too many hosts")
	}
	for i, host := range hosts {
		name, p, err := net.SplitHostPort(host)
		if err != nil {
			if name, p, err = net.SplitHostPort(host + ":" + port); err != nil {
				return nil, errors.New("has a host that is none")
			}
		}
		if n, err := strconv.ParseUint(p, 10, 16); err != nil || n == 0 {
			return nil, errors.New("has a port that is not 1 to 65535")
		}
		if !plain(strings.ReplaceAll(name, ":", "")) {
			return nil, errors.New("has a host that is none")
		}
		hosts[i] = net.JoinHostPort(name, p)
	}
	if len(slices.Compact(slices.Sorted(slices.Values(hosts)))) != len(hosts) {
		return nil, errors.New("has a host twice")
	}
	return hosts, nil
}

// plain reports whether a name is made of what names are made of.
func plain(s string) bool {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_"
	return s != "" && strings.Trim(s, letters) == ""
}
