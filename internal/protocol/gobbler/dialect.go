package gobbler

// Dialect is one of the two forms of the protocol.
type Dialect uint8

// The dialects: what the Gobbler server spoke, and what its page documented.
const (
	Deployed Dialect = iota
	Documented
)

// String is the dialect's name, as settings have it.
func (d Dialect) String() string {
	if d == Documented {
		return "documented"
	}
	return "deployed"
}

// Subprotocol is the dialect's name as a WebSocket subprotocol.
func (d Dialect) Subprotocol() string { return "gobbler." + d.String() }

// ParseDialect is the dialect whose name, or whose subprotocol, is s.
func ParseDialect(s string) (d Dialect, ok bool) {
	for _, d := range []Dialect{Deployed, Documented} {
		if s == d.String() || s == d.Subprotocol() {
			return d, true
		}
	}
	return 0, false
}
