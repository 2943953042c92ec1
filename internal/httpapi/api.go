package httpapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/account"
	"github.com/parley-im/parley/internal/backend"
	"github.com/parley-im/parley/internal/broker"
)

// Config says what an API serves and to whom.
type Config struct {
	// Log is where the streams are listed from.
	Log backend.Log
	// Broker publishes, reads and trims.
	Broker *broker.Broker
	// Logger gets the errors that a client is not shown.
	Logger *slog.Logger
	// Admit tells whether the page that a request comes from may use the API,
	// by the request's Origin; the error wraps parley.ErrForbidden.
	Admit func(*http.Request) error
	// Principal is who makes a request; the error says that the credential is not
	// accepted. Nil is anyone. What a credential looks like is not this package's
	// business, and it is not in the request any more.
	Principal func(*http.Request) (*account.Principal, error)
	// Denied, unless it is nil, is told what somebody may not do.
	Denied func(r *http.Request, who *account.Principal, what string)
	// Spend, unless it is nil, counts a message with a body of so many bytes that
	// is to be published to a topic or, with account.Send, sent to an inbox, and
	// refuses one too many.
	Spend func(r *http.Request, who *account.Principal, o account.Operation, t parley.Topic, bytes int) error
	// Over, unless it is nil, is told of a message that a quota has refused.
	Over func(r *http.Request, who *account.Principal, err error)
	// Subscribe follows a topic as server-sent events, at
	// /v1/subscribe/{topic...}; nil leaves that route out.
	Subscribe http.Handler
	// Separate says that operators have a listener of their own.
	Separate bool
	// Version is the server's.
	Version string
	// Arriving is the room for bodies of requests.
	Arriving *broker.Room
	// AnswerBytes bounds what is held of stored messages that clients have not
	// taken, all answers together; beyond it they are refused as overloaded.
	AnswerBytes int64
	// Accounts are users and what proves who they are.
	Accounts Accounts
}

// API serves everything under /v1.
type API struct {
	cfg      Config
	routes   []route
	document []byte        // OpenAPI
	leaving  *broker.Room  // for bodies of answers
	lists    chan struct{} // a place for each list of topics being made
}

// How much at once.
const (
	requestTimeout  = 30 * time.Second // counting a large stream reads many keys
	concurrentLists = 4
)

// New makes an API; Register and RegisterOperator serve it.
func New(cfg Config) *API {
	a := &API{cfg: cfg, leaving: broker.NewRoom(cfg.AnswerBytes), lists: make(chan struct{}, concurrentLists)}
	a.routes = a.table()
	a.document = a.describe()
	return a
}

// Register adds the clients' routes to mux.
func (a *API) Register(mux *http.ServeMux) {
	a.register(mux, func(rt *route) http.Handler {
		if rt.audience == operators {
			return nil
		}
		return a.serve(rt, a.caller)
	})
}

// caller is who makes a request of a client.
func (a *API) caller(r *http.Request) (*account.Principal, error) {
	if a.cfg.Principal == nil {
		return account.Anyone(parley.Identity{}), nil
	}
	return a.cfg.Principal(r)
}

// operator is who makes a request that a guard, or the listener, has let through.
func operator(*http.Request) (*account.Principal, error) {
	return account.Anyone(parley.Identity{}), nil
}

// RegisterOperator adds the operators' routes to mux, each wrapped by guard,
// which decides who may call it. On a mux of the operators' own there are also
// the routes to look at what they change.
func (a *API) RegisterOperator(mux *http.ServeMux, guard func(http.Handler) http.Handler) {
	protect := http.NewCrossOriginProtection()
	protect.SetDenyHandler(http.HandlerFunc(CrossOrigin))
	serve := func(rt *route) http.Handler {
		switch {
		case rt.audience == operators:
			return guard(protect.Handler(a.serve(rt, operator)))
		case rt.audience == everybody && a.cfg.Separate:
			return a.serve(rt, operator)
		}
		return nil
	}
	if a.cfg.Separate {
		a.register(mux, serve)
		return
	}
	for i := range a.routes { // Register has done the rest
		if h := serve(&a.routes[i]); h != nil {
			mux.Handle(a.routes[i].pattern(), h)
		}
	}
}

// register adds the routes that serve has a handler for, and answers for all
// other methods and paths.
func (a *API) register(mux *http.ServeMux, serve func(*route) http.Handler) {
	methods := map[string][]string{}
	for i := range a.routes {
		rt := &a.routes[i]
		h := serve(rt)
		if h != nil {
			mux.Handle(rt.pattern(), h)
		}
		if h != nil || rt.audience == operators && !a.cfg.Separate {
			methods[rt.path] = append(methods[rt.path], rt.method)
		}
	}
	for path, allowed := range methods {
		mux.Handle(path, a.otherMethod(allowed))
	}
	mux.HandleFunc(prefix, func(w http.ResponseWriter, r *http.Request) {
		a.fail(w, r, failure(http.StatusNotFound, "there is nothing at this path; /v1/docs says what there is"))
	})
}

// otherMethod answers methods that a path does not have: OPTIONS, a preflight
// among them, and those that are refused.
func (a *API) otherMethod(allowed []string) http.Handler {
	names := append([]string{}, allowed...)
	for _, m := range allowed {
		if m == http.MethodGet {
			names = append(names, http.MethodHead)
		}
	}
	allow := strings.Join(append(names, http.MethodOptions), ", ")
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Allow", allow)
		if r.Method != http.MethodOptions {
			a.fail(w, r, failure(http.StatusMethodNotAllowed, "the methods here are "+allow))
			return
		}
		if err := a.share(w, r); err != nil {
			a.fail(w, r, err)
			return
		}
		preflight(w, r, allow)
	})
}

// serve is the handler of one route; caller tells who makes a request.
func (a *API) serve(rt *route, caller func(*http.Request) (*account.Principal, error)) http.Handler {
	if rt.handler != nil {
		return rt.handler
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), requestTimeout)
		defer cancel()
		who := account.Nobody()
		err := a.share(w, r)
		if err == nil && !rt.public {
			who, err = a.known(caller, r)
		}
		var query map[string]string
		if err == nil {
			if query, err = rt.query(r.URL.RawQuery); err != nil && rt.publishes {
				a.cfg.Broker.Refused(err)
			}
		}
		if err == nil {
			err = rt.serve(w, &request{Request: r.WithContext(ctx), query: query, who: who})
		}
		if errors.Is(err, parley.ErrForbidden) {
			a.denied(r, who, rt.id+" "+r.URL.Path)
		}
		if errors.Is(err, context.DeadlineExceeded) {
			err = fmt.Errorf("this takes longer than %v: %w", requestTimeout, parley.ErrUnavailable)
		}
		if err != nil {
			a.fail(w, r, err)
		}
	})
}

// request is an HTTP request whose query was checked.
type request struct {
	*http.Request

	query map[string]string
	who   *account.Principal
}

// principal is who asks; never nobody, but for what is everybody's.
func (r *request) principal() *account.Principal { return r.who }

// topic is the topic that the path names.
func (r *request) topic() (parley.Topic, error) {
	return parley.ParseTopic("/" + r.PathValue("topic"))
}

// known is who makes a request, which must be somebody.
func (a *API) known(caller func(*http.Request) (*account.Principal, error), r *http.Request) (*account.Principal, error) {
	who, err := caller(r)
	switch {
	case err != nil:
		return account.Nobody(), err
	case !who.Known():
		return who, account.ErrUnknown
	}
	return who, nil
}

func (a *API) denied(r *http.Request, who *account.Principal, what string) {
	if a.cfg.Denied != nil {
		a.cfg.Denied(r, who, what)
	}
}

// brokenBody is the error of a body that could not be read, in the client's
// terms.
func brokenBody(err error) error {
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return tooLarge(large.Limit)
	case isTimeout(err):
		return failure(http.StatusRequestTimeout, "the body did not arrive in time")
	case errors.Is(err, io.ErrUnexpectedEOF):
		return failure(http.StatusBadRequest, "the body ends too early")
	}
	return failure(http.StatusBadRequest, "the body cannot be read")
}

func isTimeout(err error) bool {
	timeout, ok := errors.AsType[interface {
		error
		Timeout() bool
	}](err)
	return ok && timeout.Timeout()
}
