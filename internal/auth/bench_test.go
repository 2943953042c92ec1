package auth_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/parley-im/parley/internal/account"
	"github.com/parley-im/parley/internal/auth"
)

// BenchmarkVerify measures one token, which is remembered, and many that are not,
// on one core.
func BenchmarkVerify(b *testing.B) {
	k := newKeys()
	for _, with := range []struct {
		kid, algorithm string
		key            any
	}{{"hs", "HS256", k.secret}, {"ed", "EdDSA", k.ed}, {"es", "ES256", k.ecdsa}, {"rs", "RS256", k.rsa}} {
		const tokens = 64
		texts := make([]string, tokens)
		for i := range texts {
			texts[i] = mint(b, head(with.algorithm, with.kid), says(map[string]any{"sub": fmt.Sprint("user", i)}), with.algorithm, with.key)
		}
		for name, entries := range map[string]int{"new": 2, "remembered": 4 * tokens} {
			b.Run(with.algorithm+"/"+name, func(b *testing.B) {
				a := newAuth(b, auth.Config{Keys: k.all(), CacheEntries: entries})
				for i := 0; b.Loop(); i++ {
					if _, err := a.Verify(b.Context(), token(texts[i%tokens])); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func BenchmarkIssue(b *testing.B) {
	signer, err := auth.GenerateSigner("")
	if err != nil {
		b.Fatal(err)
	}
	a := newAuth(b, auth.Config{Signer: signer})
	for b.Loop() {
		if _, err := a.Issue("ann", "phone", time.Hour, nil); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCertificate(b *testing.B) {
	for name, ofRSA := range map[string]bool{"ECDSA": false, "RSA": true} {
		b.Run(name, func(b *testing.B) {
			c := newCA(b, ofRSA)
			a := newAuth(b, auth.Config{CA: c})
			_, der := made(b, c, auth.Request{User: "ann", RSA: ofRSA})
			for b.Loop() {
				if _, err := a.Verify(b.Context(), account.Credential{Kind: account.Certificate, Certificate: der}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
