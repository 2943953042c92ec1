package wire_test

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/parley-im/parley/internal/wire"
)

const deflateOffer = "Sec-WebSocket-Extensions: permessage-deflate\r\n"

// hello is "Hello" as RFC 7692 section 7.2.3.1 compresses it.
const hello = "\xf2\x48\xcd\xc9\xc9\x07\x00"

// deflated is p as a client compresses it; not with the library that our end
// uses.
func deflated(p []byte, level int) []byte {
	var out bytes.Buffer
	w, err := flate.NewWriter(&out, level)
	if err != nil {
		panic(err)
	}
	w.Write(p)
	w.Flush()
	return bytes.TrimSuffix(out.Bytes(), []byte("\x00\x00\xff\xff"))
}

// inflated is what a compressed payload says.
func inflated(t testing.TB, payload string) string {
	t.Helper()
	out, err := io.ReadAll(flate.NewReader(strings.NewReader(payload + "\x00\x00\xff\xff\x01\x00\x00\xff\xff")))
	if err != nil {
		t.Errorf("%d compressed bytes: %v", len(payload), err)
	}
	return string(out)
}

// small is a frame with a compressed message.
func small(payload string) []byte { return clientFrame(fin|rsv1|opText, []byte(payload)) }

// examples: section 7.2.3 of RFC 7692, and what else deflate allows.
func examples() []rfcCase {
	f := func(first byte, s string) []byte { return clientFrame(first, []byte(s)) }
	helloes := []got{echoed("Hello")}
	pong := got{opPong, "p"}
	return []rfcCase{
		wellFormed("one block", helloes, []byte("\xc1\x87\x00\x00\x00\x00"+hello)),
		wellFormed("two fragments", helloes, f(rsv1|opText, hello[:3]), f(fin|opMore, hello[3:])),
		wellFormed("two messages", []got{echoed("Hello"), echoed("Hello")}, small(hello), small(hello)),
		wellFormed("a block without compression", helloes, small("\x00\x05\x00\xfa\xffHello\x00")),
		wellFormed("a last block, and an empty one", helloes, small("\xf3\x48\xcd\xc9\xc9\x07\x00\x00")),
		wellFormed("two blocks", helloes, small("\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00")),
		wellFormed("empty", []got{echoed("")}, small("\x00")),
		wellFormed("empty, in empty fragments", []got{echoed("")}, f(rsv1|opText, ""), f(opMore, "\x00"), f(opMore, ""), f(fin|opMore, "")),
		wellFormed("an empty fixed block", []got{echoed("")}, small("\x02\x00")),
		wellFormed("an empty last block", []got{echoed("")}, small("\x01")),
		wellFormed("nothing behind the last block", helloes, small("\xf3\x48\xcd\xc9\xc9\x07\x00")),
		wellFormed("two last blocks", []got{echoed("HelloHello")}, small("\xf3\x48\xcd\xc9\xc9\x07\x00\xf3\x48\xcd\xc9\xc9\x07\x00\x00")),
		wellFormed("an empty block before", helloes, small("\x00\x00\x00\xff\xff"+hello)),
		wellFormed("binary", []got{{opBinary, "Hello"}}, f(fin|rsv1|opBinary, hello)),
		wellFormed("not compressed, among others", []got{echoed("Hello"), echoed("plain"), echoed("Hello")},
			small(hello), text("plain"), small(hello)),
		wellFormed("a ping inside", []got{pong, echoed("Hello")}, f(rsv1|opText, hello[:3]), f(fin|opPing, "p"), f(fin|opMore, hello[3:])),
		wellFormed("byte by byte", helloes, slices.Concat(
			[][]byte{f(rsv1|opText, hello[:1])}, pieces(hello[1:6], 1), [][]byte{f(fin|opMore, hello[6:])})...),
	}
}

// pieces are fragments of n bytes in the middle of a message.
func pieces(s string, n int) (all [][]byte) {
	for part := range slices.Chunk([]byte(s), n) {
		all = append(all, clientFrame(opMore, part))
	}
	return all
}

// misused: the bit where it may not be, and its neighbours.
func misused() (all []rfcCase) {
	for _, op := range []byte{opMore, opPing, opPong, opClose, 3, 11} {
		all = append(all, broken(fmt.Sprint("compressed, op ", op), 1002, "reserved bits set", clientFrame(fin|rsv1|op, nil)))
	}
	for _, bits := range []byte{rsv2, rsv3, rsv1 | rsv2, rsv1 | rsv3, rsv1 | rsv2 | rsv3} {
		all = append(all, broken(fmt.Sprintf("bits %#x", bits), 1002, "reserved bits set", clientFrame(fin|bits|opText, []byte(hello))))
	}
	return append(all,
		broken("compressed continuation of a compressed message", 1002, "reserved bits set",
			clientFrame(rsv1|opText, []byte(hello[:3])), clientFrame(fin|rsv1|opMore, []byte(hello[3:]))),
		broken("compressed continuation of a plain message", 1002, "reserved bits set",
			clientFrame(opText, []byte("a")), clientFrame(fin|rsv1|opMore, []byte(hello))),
		broken("compressed message inside a fragmented one", 1002, "new message inside a fragmented one",
			clientFrame(rsv1|opText, []byte(hello[:3])), small(hello)),
		broken("fragmented compressed ping", 1002, "reserved bits set", clientFrame(rsv1|opPing, nil)),
	)
}

// malformed: what no deflate stream may be, and text that is none.
func malformed() (all []rfcCase) {
	const reason = "compressed message is malformed"
	add := func(name, payload string) { all = append(all, broken(name, 1007, reason, small(payload))) }
	for cut := range len(hello) {
		add(fmt.Sprint("cut after ", cut), hello[:cut])
	}
	long := string(deflated(bytes.Repeat([]byte("a longer text, "), 100), flate.BestCompression))
	for cut := 5; cut < len(long); cut += 7 {
		add(fmt.Sprint("a longer one cut after ", cut), long[:cut])
	}
	add("a block of the fourth kind", "\x06\x00")
	add("a plain block whose length is no length", "\x00\x05\x00\xfa\xfeHello\x00")
	add("a plain block that is cut", "\x00\x06\x00\xf9\xffHello\x00")
	add("a distance before the beginning", "\xf2\x00\x11\x00\x00")
	add("noise", "\xff\xff\xff\xff\xff\xff\xff\xff")
	add("noise behind a last block", "\xf3\x48\xcd\xc9\xc9\x07\x00\xff\xff")
	add("text", "Hello")
	all = append(all,
		// The second message of section 7.2.3.2 refers to the first, which was
		// agreed not to happen.
		rfcCase{"context takeover", [][]byte{small(hello), small("\xf2\x00\x11\x00\x00")}, []got{echoed("Hello"), closed(1007, reason)}},
		rfcCase{"fine, then not, then fine", [][]byte{small(hello), small("\x06"), small(hello)}, []got{echoed("Hello"), closed(1007, reason)}},
		broken("cut and fragmented", 1007, reason, clientFrame(rsv1|opText, []byte(hello[:2])), clientFrame(fin|opMore, nil)),
		// Fragments of it would do as UTF-8, but it is not.
		broken("not UTF-8", 1007, "text is not UTF-8", small(string(deflated([]byte("κ\xed\xa0\x80"), 9)))),
		broken("half a character", 1007, "text is not UTF-8", small(string(deflated([]byte("x\xe2\x82"), 9)))),
		wellFormed("not UTF-8, as bytes", []got{{opBinary, "\xff\xfe"}}, clientFrame(fin|rsv1|opBinary, deflated([]byte("\xff\xfe"), 9))),
		// A character may be cut anywhere once it is compressed.
		wellFormed("UTF-8 in pieces", []got{echoed("κόσμε")}, slices.Concat(
			[][]byte{clientFrame(rsv1|opText, nil)}, pieces(string(deflated([]byte("κόσμε"), 9)), 1), [][]byte{clientFrame(fin|opMore, nil)})...),
	)
	return all
}

// bombs: messages that grow to the bound, to one byte more, and to a gigabyte.
func bombs() []rfcCase {
	const reason = "message too big"
	// With its end it ends at a byte, so that many of them are one stream.
	megabyte := string(deflated(make([]byte, 1<<20), flate.BestCompression)) + "\x00\x00\xff\xff"
	return []rfcCase{
		broken("one byte above the limit", 1009, reason, small(string(deflated(make([]byte, rfcMax+1), 9)))),
		broken("a gigabyte", 1009, reason, small(strings.Repeat(megabyte, 900)+"\x00")),
		broken("a megabyte in fragments", 1009, reason, slices.Concat(
			[][]byte{clientFrame(rsv1|opText, nil)}, pieces(megabyte+megabyte, 100), [][]byte{clientFrame(fin|opMore, []byte{0})})...),
		broken("compressed bytes above the limit", 1009, reason,
			clientFrame(rsv1|opBinary, make([]byte, wire.MostDeflated(rfcMax))), clientFrame(opMore, make([]byte, 1))),
		broken("compressed bytes declared above the limit", 1009, reason, declared(rsv1|opBinary, wire.MostDeflated(rfcMax)+1)),
		broken("bytes declared above the limit, not compressed", 1009, reason, declared(opBinary, rfcMax+1)),
		broken("fragments above the limit, not compressed", 1009, reason, clientFrame(opText, []byte("x")), declared(fin|opMore, rfcMax)),
		{
			"a text, then a bomb",
			[][]byte{small(hello), small(strings.Repeat(megabyte, 2))},
			[]got{echoed("Hello"), closed(1009, reason)},
		},
	}
}

// declared is the beginning of a frame of n bytes.
func declared(first byte, n int) []byte {
	return append(binary.BigEndian.AppendUint64([]byte{first, 0x80 | 127}, uint64(n)), 1, 2, 3, 4)
}

// grown: messages of many sizes, compressed in several ways and cut into
// fragments, sections 12 and 13 of the usual case list. They are noise, so that
// the answers are not compressed.
func grown() (all []rfcCase) {
	noise := make([]byte, rfcMax)
	_, _ = rand.NewChaCha8([32]byte{}).Read(noise)
	for _, size := range []int{0, 1, 16, 256, 4096, 65535, 65536, rfcMax} {
		for _, level := range []int{flate.HuffmanOnly, flate.NoCompression, flate.BestSpeed} {
			p := noise[:size]
			payload := string(deflated(p, level))
			want := []got{{opBinary, string(p)}}
			name := fmt.Sprintf("%d bytes, level %d", size, level)
			all = append(all, wellFormed(name, want, clientFrame(fin|rsv1|opBinary, []byte(payload))))
			if part := max(len(payload)/100, 1); size > 0 {
				all = append(all, wellFormed(name+", in fragments", want, slices.Concat(
					[][]byte{clientFrame(rsv1|opBinary, nil)}, pieces(payload, part), [][]byte{clientFrame(fin|opMore, nil)})...))
			}
		}
	}
	return all
}

// TestRFC7692 plays every case as TestRFC6455 does, with clients that compress.
func TestRFC7692(t *testing.T) {
	t.Parallel()
	for section, cases := range map[string][]rfcCase{
		"examples": examples(), "misused": misused(), "malformed": malformed(), "bombs": bombs(), "grown": grown(),
		// What holds without compression holds with it.
		"pings": pings(), "fragments": fragments(), "utf8": utf8Cases(), "goodbyes": goodbyes(),
	} {
		t.Run(section, func(t *testing.T) {
			t.Parallel()
			play(t, &wire.Config{MaxFrame: rfcMax, Compression: true}, deflateOffer, cases)
		})
	}
}
