package client

import (
	"context"
	"net/http"
	"sync"

	"github.com/parley-im/parley/internal/wire"
)

// dialFunc opens a connection to a WebSocket URL.
type dialFunc func(ctx context.Context, url string, header http.Header) (wire.Conn, error)

// Client is a connection to a server that mends itself. See the package
// comment for what it promises. All methods may be called concurrently.
type Client struct {
	url     string
	options Options
	dial    dialFunc
	closed  <-chan struct{} // closed by Close
	stop    context.CancelFunc
	tasks   sync.WaitGroup

	mu      sync.Mutex                 // guards what follows, and every subscription
	session *session                   // nil while there is no connection
	cause   error                      // why there is none
	gone    error                      // why there will be none, if the server ended it for good
	limits  limits                     // as last told
	lastID  uint64                     // of a request
	calls   map[uint64]*call           // requests that wait for an answer
	subs    map[*subscription]struct{} // all that a loop reads from
}

// Dial connects to the server at url, such as http://127.0.0.1:8080; https, ws
// and wss are understood too, and the path /v1/rpc is added when url has none.
// It tries once, for at most 10 seconds or as long as ctx lasts; an error
// wraps parley.ErrInvalid when url or o cannot be right, and otherwise
// parley.ErrUnavailable or what the server answered. After that the client
// connects again by itself until Close; ctx has no part in it.
func Dial(ctx context.Context, url string, o Options) (*Client, error) {
	return dial(ctx, url, o, webSocket(o.TLS))
}

func dial(ctx context.Context, url string, o Options, open dialFunc) (*Client, error) {
	url, err := address(url)
	if err != nil {
		return nil, err
	}
	if o, err = withDefaults(o); err != nil {
		return nil, err
	}
	life, stop := context.WithCancel(context.WithoutCancel(ctx))
	c := &Client{
		url:     url,
		options: o,
		dial:    open,
		closed:  life.Done(),
		stop:    stop,
		calls:   make(map[uint64]*call),
		subs:    make(map[*subscription]struct{}),
	}
	s, err := c.connect(ctx)
	if err != nil {
		stop()
		return nil, err
	}
	c.adopt(s)
	c.tasks.Go(func() { c.run(life, s) })
	return c, nil
}

// Close says goodbye to the server and waits until the client's goroutines have
// ended. Calls that wait for an answer, and the loops of subscriptions, end with
// ErrClosed; whether a publish that was not answered has been stored is then not
// known. The error is always nil. Further calls do nothing.
func (c *Client) Close() error {
	c.stop()
	c.tasks.Wait()
	return nil
}

// over is what calls fail with when the client is closed.
func (c *Client) over() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.overLocked()
}

func (c *Client) overLocked() error {
	if c.gone != nil {
		return c.gone
	}
	return ErrClosed
}

func (c *Client) isClosed() bool {
	select {
	case <-c.closed:
		return true
	default:
		return false
	}
}
