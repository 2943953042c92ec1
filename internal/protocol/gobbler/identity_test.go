package gobbler_test

import (
	"errors"
	"regexp"
	"strings"
	"testing"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/account"
	"github.com/parley-im/parley/internal/protocol"
	"github.com/parley-im/parley/internal/protocol/gobbler"
	"github.com/parley-im/parley/internal/wire"
)

func TestUserID(t *testing.T) {
	long := strings.Repeat("x", parley.MaxUserBytes)
	for _, tt := range []struct{ uri, want string }{
		{"/stream/user/marvin", "marvin"},
		{"/stream/user/marvin/", "marvin/"},
		{"/stream/", ""},
		{"/stream/foo", ""},
		{"/stream/user/", ""},
		{"/stream/user", ""},
		{"/stream/user/marvin?x=1&y=2", "marvin?x=1&y=2"},
		{`/stream/foo/user/a%20b"c`, `a%20b"c`},
		{"/stream/user/a/user/b", "a/user/b"},
		{"/stream/user/" + long, long},
		{"/stream/user/é", "é"},
		{"/stream/user/a%2Cb", "a%2Cb"},
	} {
		got, err := gobbler.UserID(tt.uri)
		if got != tt.want || err != nil {
			t.Errorf("UserID(%q) = %q, %v; want %q", tt.uri, got, err, tt.want)
		}
	}
	for _, uri := range []string{"a,b", "a\nb", "a\x00", "a\x7f", "a\xff", "a\u0085", long + "x"} {
		got, err := gobbler.UserID("/stream/user/" + uri)
		if got != "" || !errors.Is(err, parley.ErrInvalid) {
			t.Errorf("UserID of %q = %q, %v; want an error that wraps ErrInvalid", uri, got, err)
		}
	}
}

func TestConversation(t *testing.T) {
	conn, _ := wire.Pipe()
	ann := account.Anyone(parley.Identity{User: "ann"})
	a, b := gobbler.Conversation(conn, nil, ann, gobbler.Deployed), gobbler.Conversation(conn, nil, ann, gobbler.Deployed)
	if a.Identity.Device == b.Identity.Device {
		t.Errorf("two connections have the application id %q", a.Identity.Device)
	}
	if !regexp.MustCompile(`^[0-9a-v]{20}$`).MatchString(a.Identity.Device) {
		t.Errorf("application id %q is no xid", a.Identity.Device)
	}
	r := decode(t, a.Codec, true, "> /foo")
	if got := r[0].(*protocol.Publish).Messages[0].Message.Sender; got != a.Identity || got.User != "ann" {
		t.Errorf("it publishes as %+v, and is %+v", got, a.Identity)
	}
}
