package server

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
)

// testSecret is what Titan's tests sign tokens with; everybody knows it.
const testSecret = "pass"

// testToken is a token of user 1 that Titan's tests would have.
func testToken() string {
	base64url := base64.RawURLEncoding
	signed := base64url.EncodeToString([]byte(`{"alg":"HS256","typ":"JWT"}`)) + "." +
		base64url.EncodeToString([]byte(`{"created":1456149264,"userid":"1"}`))
	mac := hmac.New(sha256.New, []byte(testSecret))
	mac.Write([]byte(signed))
	return signed + "." + base64url.EncodeToString(mac.Sum(nil))
}
