package people_test

import (
	"encoding/json"
	"testing"
)

// issue has the server issue a token for one of a user's devices, and returns it
// with its id.
func issue(t *testing.T, s *server, user, device string) (token, id string) {
	t.Helper()
	var made struct {
		ID, Token string
	}
	if err := json.Unmarshal([]byte(s.run("token", "issue", user, "--device", device, "--json")), &made); err != nil {
		t.Fatal(err)
	}
	return made.Token, made.ID
}
