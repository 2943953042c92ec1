package gobbler

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/account"
)

// UserID is the user that a connection's request URI names: all that follows
// the first "/user/", as it was sent, or "" when there is no such part. It is
// not unescaped, and a query string belongs to it, because deployed clients see
// it come back like that.
//
// A user id is a field of every message that the user publishes, so one with a
// comma, a control character or invalid UTF-8, or of more than
// parley.MaxUserBytes, is an error that wraps parley.ErrInvalid.
func UserID(requestURI string) (string, error) {
	_, user, _ := strings.Cut(requestURI, "/user/")
	if err := checkUser(user); err != nil {
		return "", err
	}
	return user, nil
}

// ErrOther is a user id that is not that of who has authenticated.
var ErrOther = fmt.Errorf("the user id is not yours: %w", parley.ErrForbidden)

// Caller is who a connection or request is, when the user id that it names is
// user: in open mode just that, and otherwise who has authenticated, whose name
// user must be, in any case, or empty. The error wraps parley.ErrForbidden.
func Caller(who *account.Principal, user string) (*account.Principal, error) {
	if who.Open {
		return account.Anyone(parley.Identity{User: user, Device: who.Device}), nil
	}
	if user == "" {
		return who, nil
	}
	if name, err := parley.ParseUser(user); err != nil || name != who.User {
		return nil, ErrOther
	}
	return who, nil
}

// sender is Caller for a message whose sender said who it is.
func sender(who *account.Principal, said parley.Identity) (parley.Identity, error) {
	caller, err := Caller(who, said.User)
	if err != nil {
		return said, err
	}
	return parley.Identity{User: caller.User, Device: said.Device}, nil
}

// checkUser refuses what could not be told apart from the fields around it.
func checkUser(user string) error {
	switch {
	case len(user) > parley.MaxUserBytes:
		return fmt.Errorf("user id is longer than %d bytes: %w", parley.MaxUserBytes, parley.ErrInvalid)
	case !utf8.ValidString(user):
		return fmt.Errorf("user id is not valid UTF-8: %w", parley.ErrInvalid)
	case strings.ContainsFunc(user, breaksLine):
		return fmt.Errorf("user id contains a comma or a control character: %w", parley.ErrInvalid)
	}
	return nil
}

func breaksLine(r rune) bool { return r == ',' || unicode.IsControl(r) }
