package wire_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/parley-im/parley/internal/wire"
)

const (
	agreed     = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
	agreedBits = agreed + "; server_max_window_bits=15"
)

// offers are the extensions that a client may offer, line by line, and what is
// answered: refused if it is malformed.
func offers() map[string]struct {
	lines []string
	want  string
} {
	const refused, pd = "refused", "permessage-deflate"
	type lines = []string
	return map[string]struct {
		lines []string
		want  string
	}{
		"nothing":            {nil, ""},
		"an empty line":      {lines{""}, ""},
		"empty elements":     {lines{", ,\t,"}, ""},
		"another extension":  {lines{"x-webkit-deflate-frame"}, ""},
		"the bare name":      {lines{pd}, agreed},
		"Chrome and Firefox": {lines{pd + "; client_max_window_bits"}, agreed},
		"npm's ws":           {lines{pd + "; client_max_window_bits"}, agreed},
		"gorilla":            {lines{pd + "; server_no_context_takeover; client_no_context_takeover"}, agreed},
		"all parameters": {
			lines{pd + "; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=15; client_max_window_bits=10"},
			agreedBits,
		},
		"a name in other cases":      {lines{"Permessage-Deflate"}, ""},
		"a parameter in other cases": {lines{pd + "; Client_Max_Window_Bits"}, ""},
		"a longer name":              {lines{pd + "2"}, ""},
		"no spaces":                  {lines{pd + ";server_max_window_bits=15;client_max_window_bits"}, agreedBits},
		"many spaces":                {lines{"\t " + pd + " ;\t client_max_window_bits = 12  , "}, agreed},

		"server_no_context_takeover with a value": {lines{pd + "; server_no_context_takeover=1"}, ""},
		"client_no_context_takeover with a value": {lines{pd + "; client_no_context_takeover=true"}, ""},
		"server_no_context_takeover twice":        {lines{pd + "; server_no_context_takeover; server_no_context_takeover"}, ""},
		"client_no_context_takeover twice":        {lines{pd + "; client_no_context_takeover; client_no_context_takeover"}, ""},
		"client_max_window_bits twice":            {lines{pd + "; client_max_window_bits; client_max_window_bits=15"}, ""},
		"server_max_window_bits twice":            {lines{pd + "; server_max_window_bits=15; server_max_window_bits=15"}, ""},
		"an unknown parameter":                    {lines{pd + "; x"}, ""},
		"an unknown parameter with a value":       {lines{pd + "; x=1; client_max_window_bits"}, ""},

		"server_max_window_bits without a value": {lines{pd + "; server_max_window_bits"}, ""},
		"server_max_window_bits=7":               {lines{pd + "; server_max_window_bits=7"}, ""},
		"server_max_window_bits=8":               {lines{pd + "; server_max_window_bits=8"}, ""},
		"server_max_window_bits=14":              {lines{pd + "; server_max_window_bits=14"}, ""},
		"server_max_window_bits=15":              {lines{pd + "; server_max_window_bits=15"}, agreedBits},
		"server_max_window_bits=16":              {lines{pd + "; server_max_window_bits=16"}, ""},
		"server_max_window_bits=015":             {lines{pd + "; server_max_window_bits=015"}, ""},
		"server_max_window_bits=x":               {lines{pd + "; server_max_window_bits=x"}, ""},
		"client_max_window_bits=7":               {lines{pd + "; client_max_window_bits=7"}, ""},
		"client_max_window_bits=8":               {lines{pd + "; client_max_window_bits=8"}, agreed},
		"client_max_window_bits=09":              {lines{pd + "; client_max_window_bits=09"}, ""},
		"client_max_window_bits=15":              {lines{pd + "; client_max_window_bits=15"}, agreed},
		"client_max_window_bits=16":              {lines{pd + "; client_max_window_bits=16"}, ""},
		"client_max_window_bits=+15":             {lines{pd + "; client_max_window_bits=+15"}, ""},
		"client_max_window_bits=-1":              {lines{pd + "; client_max_window_bits=-1"}, ""},
		"client_max_window_bits=2^64+8":          {lines{pd + "; client_max_window_bits=18446744073709551624"}, ""},

		"a value in quotes":          {lines{pd + `; server_max_window_bits="15"`}, agreedBits},
		"a value with an escape":     {lines{pd + `; client_max_window_bits="1\2"`}, agreed},
		"a wrong value in quotes":    {lines{pd + `; client_max_window_bits="16"`}, ""},
		"a comma in quotes":          {lines{`x; y="a,b"`}, refused},
		"an empty value in quotes":   {lines{pd + `; client_max_window_bits=""`}, refused},
		"a space in quotes":          {lines{pd + `; client_max_window_bits=" 15"`}, refused},
		"quotes that do not close":   {lines{pd + `; client_max_window_bits="15`}, refused},
		"quotes that escape the end": {lines{pd + `; client_max_window_bits="15\"`}, refused},
		"an escape of nothing":       {lines{pd + `; client_max_window_bits="15\`}, refused},
		"something after the quotes": {lines{pd + `; client_max_window_bits="1"5`}, refused},
		"the name in quotes":         {lines{`"permessage-deflate"`}, refused},

		"no name":                 {lines{"; client_max_window_bits"}, refused},
		"no parameter":            {lines{pd + ";"}, refused},
		"no parameter between":    {lines{pd + ";;client_max_window_bits"}, refused},
		"no value":                {lines{pd + "; client_max_window_bits="}, refused},
		"two values":              {lines{pd + "; client_max_window_bits=1=5"}, refused},
		"two names":               {lines{"permessage deflate"}, refused},
		"what is not a token":     {lines{pd + "; client_max_window_bits(15)"}, refused},
		"not ASCII":               {lines{"permessage-déflate"}, refused},
		"malformed after a match": {lines{pd + ", x;"}, refused},
		"malformed in a line":     {lines{pd, "="}, refused},

		"falls back to a simpler one":        {lines{pd + "; server_max_window_bits=10, " + pd}, agreed},
		"falls back past faults":             {lines{pd + "; server_max_window_bits=7, " + pd + "; x, " + pd + "; server_max_window_bits=15"}, agreedBits},
		"the first that will do":             {lines{pd + ", " + pd + "; server_max_window_bits=15"}, agreed},
		"others before and after":            {lines{"foo; bar=1, " + pd + ", baz"}, agreed},
		"in the second line":                 {lines{"foo", pd + "; client_max_window_bits"}, agreed},
		"falls back to the second line":      {lines{pd + "; server_max_window_bits=9", pd}, agreed},
		"the first line wins":                {lines{pd + "; server_max_window_bits=15", pd}, agreedBits},
		"as much as is looked at":            {lines{strings.Repeat("x,", wire.MaxOffers/2-len(pd)) + strings.Repeat(",", len(pd)) + pd}, agreed},
		"too much":                           {lines{strings.Repeat("x,", wire.MaxOffers/2) + pd}, ""},
		"too much in many lines":             {append(strings.Split(strings.Repeat("x,", wire.MaxOffers), ","), pd), ""},
		"too much, and malformed":            {lines{strings.Repeat("=", wire.MaxOffers+1)}, ""},
		"a thousand parameters":              {lines{pd + strings.Repeat(";a", 1000)}, ""},
		"a thousand parameters of the right": {lines{pd + strings.Repeat("; client_max_window_bits", 100)}, ""},
	}
}

// TestOffers shakes hands with each kind of offer: with a server that has
// compression on, and with one that has not, which ignores them all.
func TestOffers(t *testing.T) {
	t.Parallel()
	on := serve(t, &wire.Config{Compression: true}, echo)
	off := serve(t, new(wire.Config), echo)
	for name, c := range offers() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var lines strings.Builder
			for _, line := range c.lines {
				lines.WriteString("sec-websocket-extensions: " + line + "\r\n")
			}
			status, header, body := exchange(t, on, request(lines.String()))
			answer := strings.Join(header.Values("Sec-WebSocket-Extensions"), "|")
			switch {
			case c.want == "refused":
				if status != http.StatusBadRequest || body != "Sec-Websocket-Extensions is malformed\n" {
					t.Errorf("got %d %q", status, body)
				}
			case status != http.StatusSwitchingProtocols || answer != c.want:
				t.Errorf("got %d, %q, want %q", status, answer, c.want)
			}
			status, header, _ = exchange(t, off, request(lines.String()))
			if status != http.StatusSwitchingProtocols {
				t.Fatalf("without compression: got %d", status)
			}
			checkUpgraded(t, header)
		})
	}
}

// TestAgreed: compressed messages are taken from who was told so, and from
// nobody else.
func TestAgreed(t *testing.T) {
	t.Parallel()
	server := serve(t, &wire.Config{Compression: true}, echo)
	for offer, want := range map[string]got{
		deflateOffer: echoed("Hello"),
		"":           closed(1002, "reserved bits set"),
		"Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=8\r\n": closed(1002, "reserved bits set"),
	} {
		c := connect(t, server.addr)
		c.send(t, append([]byte(request(offer)), small(hello)...))
		res, err := http.ReadResponse(c.r, nil)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		c.expect(t, want)
	}
}

// FuzzOffers: whatever a client offers is answered with nothing, with a refusal
// of the malformed, or with what was offered; and whoever adds a plain offer to
// a list that is well-formed gets it.
func FuzzOffers(f *testing.F) {
	for _, c := range offers() {
		if len(c.lines) > 0 && len(c.lines[0]) < 200 {
			f.Add(c.lines[0])
		}
	}
	f.Fuzz(func(t *testing.T, line string) {
		answer, err := wire.AgreeToDeflate(line)
		switch {
		case err != nil && answer == "":
		case err == nil && answer == "":
		case err == nil && (answer == agreed || answer == agreedBits) && strings.Contains(line, "permessage-deflate"):
		default:
			t.Fatalf("got %q, %v", answer, err)
		}
		if answer == agreedBits && !strings.Contains(line, "server_max_window_bits") {
			t.Errorf("answers with a parameter that was not offered: %q", line)
		}
		const plain = "permessage-deflate"
		if len(line)+len(plain)+1 > wire.MaxOffers {
			return
		}
		longer, longerErr := wire.AgreeToDeflate(line + "," + plain)
		split, splitErr := wire.AgreeToDeflate(line, plain)
		if err == nil {
			want := answer
			if want == "" {
				want = agreed
			}
			if longerErr != nil || longer != want {
				t.Errorf("with one more: %q, %v, want %q", longer, longerErr, want)
			}
		}
		if err == nil && (splitErr != nil || split != longer) {
			t.Errorf("in two lines %q, %v; in one %q", split, splitErr, longer)
		}
		if err != nil && splitErr == nil {
			t.Errorf("malformed alone, and not beside another line")
		}
	})
}
