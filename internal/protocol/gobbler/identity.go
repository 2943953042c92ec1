package gobbler

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/parley-im/parley"
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
