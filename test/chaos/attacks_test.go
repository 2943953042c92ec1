package chaos_test

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/parley-im/parley"
)

// attack is one way to make a server hold memory.
type attack struct {
	name string
	// conns is how many connections do it at a time; fewer in the short forms.
	conns int
	// budget is what one of them may make the server hold, in bytes.
	budget int
	// path is where they shake hands; empty: they do not.
	path string
	// stores says that the store has work with it, and memory of its own.
	stores bool
	// run does it to an open connection until nothing more can be done. The
	// connection stays open; nobody ever reads from it.
	run func(n int, c net.Conn)
}

// Bounds of the server under attack.
const (
	attackedMessage = 64 << 10
	attackedQueue   = 2 << 20
	attackedTail    = 2 << 20
	// target is a topic that holds more than any reader gets at once.
	target      parley.Topic = "/target"
	targetBytes              = 8 << 20
)

// What a connection may cost, in bytes.
const (
	// restCost is for one that holds nothing: its goroutine, its buffers for
	// HTTP, and what the test itself needs for it.
	restCost = 48 << 10
	// sessionCost is for one whose answers wait: a MiB each of publishes and of
	// other answers, and one page as bytes, which may be six times the page.
	sessionCost = 6 << 20
)

// silent begin something and never finish it.
func silent() []attack {
	return []attack{
		{name: "connects and says nothing", conns: 400, budget: restCost, run: func(int, net.Conn) {}},
		{name: "half a request line", conns: 400, budget: restCost, run: once("GET /v1/r")},
		{
			name: "half a header", conns: 400, budget: restCost + 64<<10,
			run: once("GET /v1/rpc HTTP/1.1\r\nHost: localhost\r\nX: " + strings.Repeat("x", 50<<10)),
		},
		{
			name: "half a body", conns: 400, budget: restCost,
			run: once("POST /v1/messages/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000\r\n\r\nx"),
		},
		{
			name: "declares a body and sends nothing", conns: 400, budget: restCost + 8<<10,
			run: once(fmt.Sprintf("POST /v1/messages/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n", attackedMessage)),
		},
		{
			name: "declares a body and sends half", conns: 100, budget: restCost + 4*attackedMessage,
			run: once(fmt.Sprintf("POST /v1/messages/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n", 2*attackedMessage) +
				strings.Repeat("x", attackedMessage)),
		},
		{name: "half a frame's header", conns: 400, budget: restCost, path: rpcPath, run: once("\x81\xff\x00\x00")},
		{
			name: "declares the most and sends nothing", conns: 400, budget: restCost, path: rpcPath,
			run: once(declared(2 * attackedMessage)),
		},
		{
			name: "declares the most and sends half", conns: 100, budget: restCost + 4*attackedMessage, path: rpcPath,
			run: once(declared(2*attackedMessage) + strings.Repeat("x", attackedMessage)),
		},
		{
			name: "declares 2^62 bytes", conns: 400, budget: restCost, path: rpcPath,
			run: flood(declared(1<<62)+strings.Repeat("x", attackedMessage), 8),
		},
		{
			name: "fragments without end", conns: 100, budget: restCost + 6*attackedMessage, path: rpcPath,
			run: func(n int, c net.Conn) {
				once("\x01\x80\x00\x00\x00\x00")(n, c)
				flood(strings.Repeat("\x00\x81\x00\x00\x00\x00x", 1000), 30)(n, c)
			},
		},
	}
}

// greedy ask for more than they take.
func greedy() []attack {
	replay := call(1, "subscribe", fmt.Sprintf(`{"topic":%q,"after":0}`, target))
	return []attack{
		{
			name: "pings without reading", conns: 100, budget: restCost + 64<<10, path: rpcPath,
			run: flood(strings.Repeat(string(frame(opPing, strings.Repeat("p", 125))), 100), 500),
		},
		{
			name: "publishes without reading", conns: 20, budget: sessionCost, path: rpcPath, stores: true,
			run: flood(texts(publishing(1, "/flood", bodyOf("x", 4<<10))), 2000),
		},
		{
			name: "publishes little without reading", conns: 20, budget: sessionCost, path: rpcPath, stores: true,
			run: flood(strings.Repeat(texts(publishing(1, "/flood", "x")), 100), 400),
		},
		{
			// Each answer repeats the id, and nothing is stored.
			name: "conflicts without reading", conns: 20, budget: sessionCost, path: rpcPath,
			run: func(n int, c net.Conn) {
				publish := func(body string) string {
					return call(2, "publish", fmt.Sprintf(`{"topic":"/flood","id":%q,"text":%q}`, strings.Repeat("i", 255), body))
				}
				once(texts(call(1, "hello", fmt.Sprintf(`{"producer":"%032x"}`, n)), publish("first")))(n, c)
				flood(strings.Repeat(texts(publish(bodyOf("x", 1<<10))), 100), 300)(n, c)
			},
		},
		{
			name: "nonsense without reading", conns: 40, budget: sessionCost, path: rpcPath,
			run: flood(texts("["+strings.Repeat("7,", 99)+"7]"), 5000),
		},
		{
			name: "subscribes to 1,000 topics", conns: 20, budget: sessionCost, path: rpcPath,
			run: func(n int, c net.Conn) {
				var all []string
				for i := range 1500 { // more than are allowed
					all = append(all, call(i, "subscribe", fmt.Sprintf(`{"topic":"/many/%d/%d"}`, n, i)))
				}
				once(texts(all...))(n, c)
			},
		},
		{
			name: "replays without reading", conns: 40, budget: sessionCost, path: rpcPath,
			run: flood(texts(replay), scale(100, 1000, 1000)),
		},
		{
			name: "history without reading", conns: 20, budget: sessionCost, path: rpcPath,
			run: flood(texts(call(1, "history", fmt.Sprintf(`{"topic":%q}`, target))), 1000),
		},
		{
			name: "publishes by Gobbler without reading", conns: 20, budget: sessionCost, path: gobblerPath, stores: true,
			run: flood(texts("> /flood x\n\n"+bodyOf("x", 4<<10)), 2000),
		},
		{
			name: "replays by Gobbler without reading", conns: 40, budget: sessionCost, path: gobblerPath,
			run: flood(texts("+ "+string(target)+" 0"), 1000),
		},
		{
			name: "fetches by Gobbler without reading", conns: 40, budget: sessionCost, path: gobblerPath,
			run: flood(texts("+ "+string(target)+" 0 1000000"), scale(150, 1500, 1500)),
		},
		{
			name: "nonsense by Gobbler without reading", conns: 40, budget: sessionCost, path: gobblerPath,
			run: flood(strings.Repeat(texts("?"), 100), 2000),
		},
	}
}

// flood sends text a number of times, or until the server takes no more.
func flood(text string, times int) func(int, net.Conn) {
	enough := time.Duration(scale(300, 1000, 3000)) * time.Millisecond
	return func(_ int, c net.Conn) {
		for range times {
			_ = c.SetWriteDeadline(time.Now().Add(enough))
			if _, err := io.WriteString(c, text); err != nil {
				return
			}
		}
	}
}

func once(text string) func(int, net.Conn) { return flood(text, 1) }

// texts is text frames.
func texts(payloads ...string) string {
	var all []byte
	for _, s := range payloads {
		all = append(all, frame(opText, s)...)
	}
	return string(all)
}

// declared is the header of a text frame that has, it says, n bytes.
func declared(n uint64) string {
	return string(binary.BigEndian.AppendUint64([]byte{0x81, 0x80 | 127}, n)) + "\x00\x00\x00\x00"
}
