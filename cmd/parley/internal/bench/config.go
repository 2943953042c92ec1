package bench

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"time"

	"github.com/parley-im/parley"
)

// minSize is the smallest body: it carries the time at which the message was
// due.
const minSize = stampBytes

// Config is one load.
type Config struct {
	// URL is the server's, such as http://127.0.0.1:8080.
	URL string
	// Prefix begins the name of every topic: topic i is the prefix with i
	// behind it, so /x makes as many roots as topics, /root/x one.
	Prefix string
	// Topics is how many there are.
	Topics int
	// Random picks each message's topic at random; otherwise each publisher
	// goes round all of them.
	Random bool
	// Publishers is how many connections publish.
	Publishers int
	// Subscribers is how many connections subscribe to each topic, to deliver.
	Subscribers int
	// Protocol is what the subscribers, and the connections that are held idle,
	// speak: gobbler or sse.
	Protocol string
	// Connections is how many connections replay, or are held idle.
	Connections int
	// Size is the length of a body in bytes.
	Size int
	// Duration is how long messages are published or connections held.
	Duration time.Duration
	// Window is how many messages of a publisher may be unacknowledged.
	Window int
	// Rate is how many messages per second all publishers send together,
	// whether the server keeps up or not; latency then counts from when a
	// message was due. 0 means as many as the window lets through.
	Rate float64
	// InFlight is how many deliveries to a device may be unacknowledged; 0 is as
	// the server has it.
	InFlight int
	// Batch is how many letters one request takes at most.
	Batch int
	// Inboxes is how many users get a letter, and Online how many of a hundred of
	// them come and fetch it.
	Inboxes int
	Online  float64
	// Dialect is what users speak: native, or titan, whose users need a Signer with
	// a key.
	Dialect string
	// Signer makes users known to the server.
	Signer Signer
	// Tokens is how many tokens each publisher makes before the load, and shows in
	// turn: each is another user's. A server remembers the newest that it has seen.
	Tokens int
	// KeysAt is an address, host:port, at which the Signer's public key is
	// published as long as the load lasts (JWKS, over HTTP at any path); empty is
	// nowhere.
	KeysAt string
	// Progress gets one line a second.
	Progress io.Writer
}

// Default is a load that a laptop carries in ten seconds.
func Default() Config {
	return Config{
		Prefix: "/bench", Topics: 4, Publishers: 4, Subscribers: 1, Connections: 1000, Protocol: gobblerProtocol,
		Size: 100, Duration: 10 * time.Second, Window: 512, Batch: 1, Dialect: nativeDialect, Inboxes: 1_000_000, Online: 1, Tokens: 64, Progress: io.Discard,
	}
}

// Check says everything that is wrong with c; the error wraps
// parley.ErrInvalid.
func (c *Config) Check() error {
	var errs []error
	for _, n := range []struct {
		flag        string
		value, most int
	}{
		{"topics", c.Topics, 100_000_000},
		{"publishers", c.Publishers, 10_000},
		{"subscribers", c.Subscribers, 10_000},
		{"connections", c.Connections, 1_000_000},
		{"window", c.Window, 1 << 20},
		{"batch", c.Batch, 1000},
		{"tokens", c.Tokens, 1_000_000},
		{"inboxes", c.Inboxes, 100_000_000},
	} {
		if n.value < 1 || n.value > n.most {
			errs = append(errs, fmt.Errorf("--%s must be 1 to %d: %w", n.flag, n.most, parley.ErrInvalid))
		}
	}
	if c.Protocol != gobblerProtocol && c.Protocol != sseProtocol {
		errs = append(errs, fmt.Errorf("--protocol must be %s: %w", protocols(), parley.ErrInvalid))
	}
	switch {
	case c.Dialect != nativeDialect && c.Dialect != titanDialect:
		errs = append(errs, fmt.Errorf("--dialect must be %s: %w", dialects(), parley.ErrInvalid))
	case c.Dialect == titanDialect && !c.Signer.signs():
		errs = append(errs, fmt.Errorf("--dialect titan needs --jwt-key-file, because its users always show a token: %w", parley.ErrInvalid))
	case c.Dialect == titanDialect && c.InFlight > 0:
		errs = append(errs, fmt.Errorf("--in-flight is nothing that clients of --dialect titan can choose: %w", parley.ErrInvalid))
	case c.Dialect == titanDialect && c.Size < minSize+numberBytes:
		errs = append(errs, fmt.Errorf("--size must be %d at least with --dialect titan: %w", minSize+numberBytes, parley.ErrInvalid))
	}
	if c.KeysAt != "" && c.Signer.key == nil {
		errs = append(errs, fmt.Errorf("--jwks-listen needs --jwt-key-file with a private key in PEM: %w", parley.ErrInvalid))
	}
	if c.Size < minSize {
		errs = append(errs, fmt.Errorf("--size must be %d at least: %w", minSize, parley.ErrInvalid))
	}
	if c.Duration <= 0 {
		errs = append(errs, fmt.Errorf("--duration must be above 0: %w", parley.ErrInvalid))
	}
	if c.Online < 0 || c.Online > 100 || math.IsNaN(c.Online) {
		errs = append(errs, fmt.Errorf("--online must be 0 to 100: %w", parley.ErrInvalid))
	}
	if c.InFlight < 0 {
		errs = append(errs, fmt.Errorf("--in-flight must not be below 0: %w", parley.ErrInvalid))
	}
	if c.Rate < 0 {
		errs = append(errs, fmt.Errorf("--rate must not be below 0: %w", parley.ErrInvalid))
	}
	if _, err := parley.ParseTopic(c.topic(c.Topics)); err != nil {
		errs = append(errs, fmt.Errorf("--prefix: %w", err))
	}
	return errors.Join(errs...)
}

// pad is what is behind the first so many bytes of a body.
func (c *Config) pad(behind int) []byte { return bytes.Repeat([]byte{'x'}, max(0, c.Size-behind)) }

// topic is the name of topic i.
func (c *Config) topic(i int) string { return c.Prefix + strconv.Itoa(i) }
