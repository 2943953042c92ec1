package server_test

import (
	"testing"
	"time"

	"github.com/parley-im/parley/server"
)

func TestParseDuration(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"0": 0, "0d": 0, "90s": 90 * time.Second, "1h30m": 90 * time.Minute, "7d": 7 * 24 * time.Hour,
		"1d12h": 36 * time.Hour, "106751d": 106751 * 24 * time.Hour,
	} {
		if got, err := server.ParseDuration(text); err != nil || got != want {
			t.Errorf("ParseDuration(%q) = %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "d", "7", "-1s", "-1d", "1d-1h", "1.5d", "1d2d", "106752d", "106751d24h", "1h1d", "99999999999d", "1 d", "x"} {
		if got, err := server.ParseDuration(text); err == nil {
			t.Errorf("ParseDuration(%q) = %v, want an error", text, got)
		}
	}
}

func TestParseSize(t *testing.T) {
	for text, want := range map[string]int64{
		"0": 0, "17": 17, "17B": 17, "1KiB": 1 << 10, "2 MiB": 2 << 20, "10GiB": 10 << 30, "8388607TiB": 8388607 << 40,
	} {
		if got, err := server.ParseSize(text); err != nil || got != want {
			t.Errorf("ParseSize(%q) = %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "KiB", "-1", "+1", "1.5MiB", "1MB", "1k", "1kib", "8388608TiB", "9223372036854775808", "0x10", "1_000"} {
		if got, err := server.ParseSize(text); err == nil {
			t.Errorf("ParseSize(%q) = %v, want an error", text, got)
		}
	}
}

func TestBoundsReadWhatTheyWrite(t *testing.T) {
	for _, text := range []string{"age:30d,bytes:256MiB,messages:100000", "messages:1", "age:1h"} {
		b, err := server.ParseBounds(text)
		if err != nil || b.String() != text {
			t.Errorf("%s was read as %+v, %v", text, b, err)
		}
	}
}

func TestRetentionReadsWhatItWrites(t *testing.T) {
	for _, text := range []string{"orders=age:30d,bytes:10GiB,messages:1000000", "*=age:1d12h", "a=bytes:17", "b=age:25h", "c=age:1h30m5s", "d=age:2d1h"} {
		r, err := server.ParseRetention(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		again, err := server.ParseRetention(r.String())
		if err != nil || again != r {
			t.Errorf("%s was written as %s and read as %v, %v", text, r, again, err)
		}
	}
}
