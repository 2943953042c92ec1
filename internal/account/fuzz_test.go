package account_test

import (
	"bytes"
	"testing"

	"github.com/parley-im/parley/internal/account"
)

// FuzzUser reads records of users as a damaged disk, or another program, would have
// left them: an error or a user who is written as they were read.
func FuzzUser(f *testing.F) {
	for _, v := range []string{
		"", "{}", "[]", "null", `{"created":"2026-01-02T03:04:05Z","grants":["all:/chat/*"],"devices":[{"name":"phone","created":"2026-01-02T03:04:05Z","seen":"0001-01-01T00:00:00Z"}]}`,
		`{"grants":["fly:/a"]}`, `{"grants":[""]}`, `{"created":"then"}`, `{"devices":[{"name":1}]}`, `{"suspended":true,"deleting":true,"not_before":"2026-01-02T03:04:05.123456789+01:00"}`,
	} {
		f.Add([]byte(v))
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		user, again, err := account.ReadUser("user/ann", value)
		if err != nil {
			return
		}
		_, last, err := account.ReadUser("user/ann", again)
		if err != nil || user.Name != "ann" || !bytes.Equal(last, again) {
			t.Fatalf("%q was written as %q, and that is read as %q, %v", value, again, last, err)
		}
	})
}
