package parley

// Identity is who a credential proves: a user, and one installation of a client
// of theirs. Both may be empty: an anonymous session has no user, and not every
// protocol knows devices.
type Identity struct {
	User   string
	Device string
}
