package wire_test

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/parley-im/parley/internal/wire"
)

// rfcMax is the MaxFrame of the table's server.
const rfcMax = 1 << 20

// rfcCase is what a client sends and all that an echoing server answers, up to
// the end of the stream.
type rfcCase struct {
	name string
	send [][]byte
	want []got
}

func closed(code uint16, reason string) got {
	return got{opClose, string(binary.BigEndian.AppendUint16(nil, code)) + reason}
}

func echoed(s string) got { return got{opText, s} }

// ok ends a case that breaks no rule.
func ok() ([]byte, got) { return closing(1000, ""), closed(1000, "") }

func wellFormed(name string, want []got, send ...[]byte) rfcCase {
	bye, answer := ok()
	return rfcCase{name, append(send, bye), append(want, answer)}
}

func broken(name string, code uint16, reason string, send ...[]byte) rfcCase {
	return rfcCase{name, send, []got{closed(code, reason)}}
}

// sizes: section 1 and 9 of the usual case list.
func sizes() (all []rfcCase) {
	for _, n := range []int{0, 1, 125, 126, 127, 128, 1<<16 - 1, 1 << 16, 1<<16 + 1, 1 << 18, rfcMax} {
		for _, op := range []byte{opText, opBinary} {
			p := bytes.Repeat([]byte("*"), n)
			all = append(all, wellFormed(fmt.Sprintf("op %d of %d bytes", op, n), []got{{op, string(p)}}, clientFrame(fin|op, p)))
		}
	}
	for _, part := range []int{64, 1300, 1 << 16} {
		p := bytes.Repeat([]byte("Hä"), 1<<16)
		var send [][]byte
		op := byte(opText)
		for chunk := range slices.Chunk(p, part) {
			send = append(send, clientFrame(op, chunk))
			op = opMore
		}
		send = append(send, clientFrame(fin|opMore, nil))
		all = append(all, wellFormed(fmt.Sprintf("%d bytes in fragments of %d", len(p), part), []got{echoed(string(p))}, send...))
	}
	single := strings.Repeat("*", 4096)
	all = append(all, wellFormed("fragments of 1 byte", []got{echoed(single)},
		append(append([][]byte{clientFrame(opText, nil)}, pieces(single, 1)...), clientFrame(fin|opMore, nil))...))
	var bytewise [][]byte
	var echoes []got
	for i := range 1000 {
		bytewise = append(bytewise, clientFrame(fin|opBinary, []byte{byte(i)}))
		echoes = append(echoes, got{opBinary, string([]byte{byte(i)})})
	}
	all = append(all, wellFormed("messages of 1 byte", echoes, bytewise...))
	tooBig := func(n uint64) []byte {
		return append(binary.BigEndian.AppendUint64([]byte{fin | opBinary, 0x80 | 127}, n), 1, 2, 3, 4)
	}
	return append(all,
		broken("one byte above the limit", 1009, "message too big", tooBig(rfcMax+1)),
		broken("2^31", 1009, "message too big", tooBig(1<<31)),
		broken("2^32", 1009, "message too big", tooBig(1<<32)),
		broken("2^63-1", 1009, "message too big", tooBig(1<<63-1)),
		broken("2^63", 1002, "length has its highest bit set", tooBig(1<<63)),
		broken("2^64-1", 1002, "length has its highest bit set", tooBig(1<<64-1)),
		broken("125 bytes in 2 length bytes", 1002, "length is not minimal", []byte{fin | opText, 0x80 | 126, 0, 125}),
		broken("0 bytes in 8 length bytes", 1002, "length is not minimal", tooBig(0)),
		broken("65535 bytes in 8 length bytes", 1002, "length is not minimal", tooBig(65535)),
		broken("fragments above the limit", 1009, "message too big",
			clientFrame(opBinary, make([]byte, rfcMax)), clientFrame(opMore, make([]byte, 1))),
	)
}

// pings: section 2.
func pings() []rfcCase {
	long := strings.Repeat("\xfe", 125)
	var ten [][]byte
	var tenPongs []got
	for i := range 10 {
		ten = append(ten, clientFrame(fin|opPing, fmt.Append(nil, "payload-", i)))
		tenPongs = append(tenPongs, got{opPong, fmt.Sprint("payload-", i)})
	}
	return []rfcCase{
		wellFormed("ping", []got{{opPong, ""}}, clientFrame(fin|opPing, nil)),
		wellFormed("ping with text", []got{{opPong, "Hello"}}, clientFrame(fin|opPing, []byte("Hello"))),
		wellFormed("ping with bytes", []got{{opPong, "\x00\xff\xfe"}}, clientFrame(fin|opPing, []byte("\x00\xff\xfe"))),
		wellFormed("ping with 125 bytes", []got{{opPong, long}}, clientFrame(fin|opPing, []byte(long))),
		broken("ping with 126 bytes", 1002, "control frame longer than 125 bytes", clientFrame(fin|opPing, []byte(long+"x"))),
		wellFormed("pong nobody asked for", nil, clientFrame(fin|opPong, nil)),
		wellFormed("pong with a payload", nil, clientFrame(fin|opPong, []byte("unsolicited"))),
		wellFormed("pong, then ping", []got{{opPong, "p"}}, clientFrame(fin|opPong, []byte("u")), clientFrame(fin|opPing, []byte("p"))),
		wellFormed("ten pings", tenPongs, ten...),
	}
}

// bits: sections 3 and 4, and masking.
func bits() (all []rfcCase) {
	for rsv := byte(rsv3); rsv <= rsv1|rsv2|rsv3; rsv += rsv3 {
		for _, op := range []byte{opText, opBinary, opPing, opClose, opMore} {
			all = append(all, broken(fmt.Sprintf("reserved bits %#x with op %d", rsv, op), 1002, "reserved bits set",
				clientFrame(fin|rsv|op, nil)))
		}
	}
	for _, op := range []byte{3, 4, 5, 6, 7, 11, 12, 13, 14, 15} {
		reason := fmt.Sprint("unknown opcode ", op)
		all = append(all,
			broken(fmt.Sprint("opcode ", op), 1002, reason, clientFrame(fin|op, nil)),
			rfcCase{
				fmt.Sprint("text, opcode ", op, ", ping"),
				[][]byte{text("before"), clientFrame(fin|op, []byte("p")), clientFrame(fin|opPing, nil)},
				[]got{echoed("before"), closed(1002, reason)},
			})
	}
	unmasked := []byte{fin | opText, 2, 'h', 'i'}
	return append(all,
		broken("unmasked", 1002, "incorrect mask flag", unmasked),
		rfcCase{"text, unmasked", [][]byte{text("a"), unmasked}, []got{echoed("a"), closed(1002, "incorrect mask flag")}},
		wellFormed("zero mask", []got{echoed("hi")}, []byte{fin | opText, 0x82, 0, 0, 0, 0, 'h', 'i'}),
	)
}

// fragments: section 5.
func fragments() []rfcCase {
	f := func(first byte, s string) []byte { return clientFrame(first, []byte(s)) }
	ping := f(fin|opPing, "p")
	pong := got{opPong, "p"}
	return []rfcCase{
		broken("fragmented ping", 1002, "fragmented control frame", f(opPing, "a"), f(fin|opMore, "b")),
		broken("fragmented pong", 1002, "fragmented control frame", f(opPong, "a")),
		broken("fragmented close", 1002, "fragmented control frame", f(opClose, "")),
		wellFormed("two", []got{echoed("ab")}, f(opText, "a"), f(fin|opMore, "b")),
		wellFormed("ping between", []got{pong, echoed("ab")}, f(opText, "a"), ping, f(fin|opMore, "b")),
		wellFormed("empty ones", []got{echoed("")}, f(opText, ""), f(opMore, ""), f(fin|opMore, "")),
		wellFormed("empty ones around", []got{echoed("x")}, f(opText, ""), f(opMore, "x"), f(fin|opMore, "")),
		wellFormed("pings between many", []got{pong, pong, pong, echoed("12345")},
			f(opText, "1"), f(opMore, "2"), ping, f(opMore, "3"), f(opMore, "4"), ping, ping, f(fin|opMore, "5")),
		wellFormed("binary", []got{{opBinary, "\xff\xfe"}}, f(opBinary, "\xff"), f(fin|opMore, "\xfe")),
		wellFormed("two messages", []got{echoed("ab"), echoed("cd"), {opBinary, "ef"}},
			f(opText, "a"), f(fin|opMore, "b"), f(opText, "c"), f(fin|opMore, "d"), f(fin|opBinary, "ef")),
		broken("continuation first", 1002, "continuation of nothing", f(opMore, "a"), f(fin|opMore, "b")),
		broken("last continuation first", 1002, "continuation of nothing", f(fin|opMore, "a"), f(fin|opText, "b")),
		{
			"continuation after the end",
			[][]byte{f(opText, "a"), f(fin|opMore, "b"), f(opMore, "c"), f(fin|opText, "d")},
			[]got{echoed("ab"), closed(1002, "continuation of nothing")},
		},
		broken("text inside", 1002, "new message inside a fragmented one", f(opText, "a"), f(fin|opText, "b")),
		broken("binary inside", 1002, "new message inside a fragmented one", f(opText, "a"), f(opBinary, "b")),
	}
}

// utf8Cases: section 6.
func utf8Cases() (all []rfcCase) {
	good := []string{
		"Hello-µ@ßöäüàá-UTF-8!!", "κόσμε", "\x00", "\x7f", "\u0080", "\u07ff", "\u0800", "\ud7ff", "\ue000", "\ufffd",
		"\ufffe", "\uffff", "\U00010000", "\U0010ffff", "\U0001f600",
	}
	bad := []string{
		"\x80", "\xbf", "\xc2", "\xc0\xaf", "\xc1\xbf", "\xe0\x80\xaf", "\xe0\x9f\xbf", "\xf0\x80\x80\xaf",
		"\xf0\x8f\xbf\xbf", "\xed\xa0\x80", "\xed\xbf\xbf", "\xed\xa0\x80\xed\xb0\x80", "\xf4\x90\x80\x80",
		"\xf5\x80\x80\x80", "\xf8\x88\x80\x80\x80", "\xfc\x84\x80\x80\x80\x80", "\xfe", "\xff",
		"κόσμε\xed\xa0\x80edited", "\xe2\x82", "\xf0\x9f\x98",
	}
	split := func(s string, at int) [][]byte {
		return [][]byte{clientFrame(opText, []byte(s[:at])), clientFrame(fin|opMore, []byte(s[at:]))}
	}
	for _, s := range good {
		all = append(all, wellFormed(fmt.Sprintf("%q", s), []got{echoed(s)}, text(s)))
		for at := range len(s) {
			all = append(all, wellFormed(fmt.Sprintf("%q split at %d", s, at), []got{echoed(s)}, split(s, at)...))
		}
	}
	for _, s := range bad {
		all = append(all,
			broken(fmt.Sprintf("%q", s), 1007, "text is not UTF-8", text(s)),
			broken(fmt.Sprintf("%q split", s), 1007, "text is not UTF-8", split(s, len(s)/2)...),
			wellFormed(fmt.Sprintf("%q as bytes", s), []got{{opBinary, s}}, clientFrame(fin|opBinary, []byte(s))),
			rfcCase{fmt.Sprintf("text, %q, text", s), [][]byte{text("a"), text(s), text("b")}, []got{echoed("a"), closed(1007, "text is not UTF-8")}},
		)
	}
	return all
}

// goodbyes: section 7.
func goodbyes() (all []rfcCase) {
	bye, answer := ok()
	reason := strings.Repeat("*", 123)
	all = []rfcCase{
		{"close", [][]byte{bye}, []got{answer}},
		{"close without a code", [][]byte{clientFrame(fin|opClose, nil)}, []got{{opClose, ""}}},
		{"text, close", [][]byte{text("a"), bye}, []got{echoed("a"), answer}},
		{"close, close", [][]byte{bye, bye}, []got{answer}},
		{"close, ping", [][]byte{bye, clientFrame(fin|opPing, nil)}, []got{answer}},
		{"close, text", [][]byte{bye, text("after")}, []got{answer}},
		{"close, nonsense", [][]byte{bye, {0xff, 0xff, 0xff}}, []got{answer}},
		{"close inside a message", [][]byte{clientFrame(opText, []byte("a")), bye, clientFrame(fin|opMore, []byte("b"))}, []got{answer}},
		{"close with a reason", [][]byte{closing(1000, "bye")}, []got{answer}},
		{"close with the longest reason", [][]byte{closing(1000, reason)}, []got{answer}},
		broken("close with a reason too long", 1002, "control frame longer than 125 bytes", closing(1000, reason+"*")),
		broken("close with half a code", 1002, "close frame with half a code", clientFrame(fin|opClose, []byte{3})),
		broken("close with a reason not UTF-8", 1007, "close reason is not UTF-8", closing(1000, "\xed\xa0\x80")),
		{"text, close with a bad code", [][]byte{text("a"), closing(1005, "")}, []got{echoed("a"), closed(1002, "invalid close code 1005")}},
	}
	for _, code := range []uint16{1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999} {
		all = append(all, rfcCase{fmt.Sprint("close code ", code), [][]byte{closing(code, "why")}, []got{closed(code, "")}})
	}
	for _, code := range []uint16{0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535} {
		all = append(all, broken(fmt.Sprint("close code ", code), 1002, fmt.Sprint("invalid close code ", code), closing(code, "why")))
	}
	return all
}

// TestRFC6455 plays every case against the HTTP server over TCP in one piece,
// and over a connection that delivers byte by byte.
func TestRFC6455(t *testing.T) {
	t.Parallel()
	for section, cases := range map[string][]rfcCase{
		"1 sizes": sizes(), "2 pings": pings(), "3 bits": bits(), "5 fragments": fragments(), "6 utf8": utf8Cases(), "7 goodbyes": goodbyes(),
	} {
		t.Run(section, func(t *testing.T) {
			t.Parallel()
			play(t, &wire.Config{MaxFrame: rfcMax}, "", cases)
		})
	}
}

// play plays cases with clients that offer something in their handshake.
func play(t *testing.T, cfg *wire.Config, offer string, cases []rfcCase) {
	t.Helper()
	server := serve(t, cfg, echo)
	server.offer = offer
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			all := bytes.Join(c.send, nil)
			playTCP(t, server, c, all)
			if len(all) < 1<<18 {
				playBytes(t, cfg, c, all)
			}
		})
	}
}

func playTCP(t *testing.T, server *served, c rfcCase, all []byte) {
	t.Helper()
	conn := server.dial(t)
	var sender sync.WaitGroup
	sender.Go(func() { _, _ = conn.Write(all) }) // the server may close before it has taken all
	conn.expect(t, c.want...)
	conn.expectEnd(t)
	conn.Close()
	sender.Wait()
	checkEnd(t, server.err(t), c)
}

func playBytes(t *testing.T, cfg *wire.Config, c rfcCase, all []byte) {
	t.Helper()
	conn := &script{in: all, cuts: make([]byte, len(all))}
	err := echo(wire.NewServerEnd(conn, cfg))
	r := bufio.NewReader(&conn.out)
	for i, want := range c.want {
		if g, err := serverFrame(r); err != nil || g != want {
			t.Fatalf("byte by byte, frame %d: got %v, %v, want %v", i, g, err, want)
		}
	}
	if g, err := serverFrame(r); !errors.Is(err, io.EOF) {
		t.Errorf("byte by byte: got %v, %v, want EOF", g, err)
	}
	checkEnd(t, err, c)
}

// checkEnd: the session was told the code that the wire shows.
func checkEnd(t *testing.T, err error, c rfcCase) {
	t.Helper()
	last := c.want[len(c.want)-1].payload
	want := wire.CloseNoStatus
	if last != "" {
		want = binary.BigEndian.Uint16([]byte(last))
	}
	var e *wire.CloseError
	if !errors.As(err, &e) || e.Code != want {
		t.Errorf("the session ended with %v, want close code %d", err, want)
	}
}
