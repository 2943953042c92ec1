package jsonrpc_test

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/parley-im/parley/internal/protocol/jsonrpc"
)

func TestAppendEnvelope(t *testing.T) {
	tests := map[string]struct{ got, want []byte }{
		"result":       {jsonrpc.AppendResult(nil, `"a"`), []byte(`{"jsonrpc":"2.0","id":"a","result":`)},
		"failure":      {jsonrpc.AppendFailure(nil, jsonrpc.NullID), []byte(`{"jsonrpc":"2.0","id":null,"error":`)},
		"notification": {jsonrpc.AppendNotification(nil, "bye"), []byte(`{"jsonrpc":"2.0","method":"bye","params":`)},
	}
	for name, test := range tests {
		if string(test.got) != string(test.want) {
			t.Errorf("%s: got %s", name, test.got)
		}
		if whole := jsonrpc.AppendEnd(append(test.got, `{}`...)); !json.Valid(whole) {
			t.Errorf("%s: %s is no JSON", name, whole)
		}
	}
}

func TestAppendString(t *testing.T) {
	all := make([]byte, 128)
	for i := range all {
		all[i] = byte(i)
	}
	for _, s := range []string{"", "a", `"`, `\`, string(all), "é\u2028\u2029😀\ufffd\ufeff", strings.Repeat("ab\n", 1000)} {
		checkString(t, s)
	}
	if got := string(jsonrpc.AppendString([]byte("x"), "a\xff\xfeb\x1f\x7f/")); got != "x\"a\ufffdb\\u001f\x7f/\"" {
		t.Errorf("got %q", got)
	}
}

func checkString(t *testing.T, s string) {
	got := jsonrpc.AppendString(nil, s)
	var back string
	if err := json.Unmarshal(got, &back); err != nil || back != strings.ToValidUTF8(s, "\ufffd") {
		t.Errorf("%q: got %s, which reads as %q (%v)", s, got, back, err)
	}
	if utf8.ValidString(s) {
		if text := jsonrpc.AppendText(nil, []byte(s)); string(text) != string(got) {
			t.Errorf("%q: as text %s", s, text)
		}
	}
}

func FuzzAppendString(f *testing.F) {
	f.Add("a\x00\"\\\xff")
	f.Add("\u2028\xed\xa0\x80é")
	f.Fuzz(checkString)
}
