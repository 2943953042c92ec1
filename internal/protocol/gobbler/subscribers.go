package gobbler

import (
	"io"
	"net/http"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/account"
	"github.com/parley-im/parley/internal/broker"
)

// Bounds of what is listed.
const (
	maxSubscribers = 10_000 // of one topic
	maxRoutes      = 10_000 // of all
)

// subscribers lists who is subscribed to exactly that topic, the oldest
// subscription first.
func (a *API) subscribers(w http.ResponseWriter, r *http.Request, path string) {
	who, err := a.caller(r)
	var topic parley.Topic
	if err == nil {
		topic, err = parley.ParseTopic(path)
	}
	if err == nil && !topic.Reserved() { // nobody is subscribed to those
		err = who.Allow(account.Presence, topic)
	}
	if err != nil {
		a.denied(r, who, "presence "+path, err)
		a.fail(w, r, err)
		return
	}
	p := []byte{'['}
	for i, s := range a.Broker.Subscribers(topic, maxSubscribers) {
		if i > 0 {
			p = append(p, ',')
		}
		p = appendParams(p, s)
	}
	reply(w, append(p, ']'))
}

// RegisterRouter adds the list of all subscriptions to mux at path. It is wrapped
// by guard, which decides who may see it.
func (a *API) RegisterRouter(mux *http.ServeMux, path string, guard func(http.Handler) http.Handler) {
	mux.Handle(path, guard(http.HandlerFunc(a.router)))
}

// router lists all subscriptions by topic. The last three members are those of a
// WebSocket in the Gobbler server; here they mean nothing.
func (a *API) router(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusMethodNotAllowed)
		_, _ = io.WriteString(w, `{"error":"method not allowed, only HTTP GET is accepted"}`+"\n") // as for reply
		return
	}
	p := []byte{'{'}
	var last parley.Topic
	for _, s := range a.Broker.AllSubscribers(maxRoutes) {
		if s.Topic != last {
			if last != "" {
				p = append(p, "],"...)
			}
			p = appendQuoted(p, string(s.Topic))
			p = append(p, ":["...)
			last = s.Topic
		} else {
			p = append(p, ',')
		}
		p = append(p, `{"RouteParams":`...)
		p = appendParams(p, s)
		p = append(p, `,"Path":`...)
		p = appendQuoted(p, string(s.Topic))
		p = append(p, `,"ChannelSize":10,"QueueSize":0,"Timeout":0}`...)
	}
	if last != "" {
		p = append(p, ']')
	}
	reply(w, append(p, "}\n"...))
}

// appendParams appends what the Gobbler server knew of a subscriber.
func appendParams(p []byte, s broker.Subscriber) []byte {
	p = append(p, `{"application_id":`...)
	p = appendQuoted(p, s.Identity.Device)
	p = append(p, `,"user_id":`...)
	p = appendQuoted(p, s.Identity.User)
	return append(p, '}')
}

// reply answers with p, which is JSON. That the client has gone is nobody's
// concern.
func reply(w http.ResponseWriter, p []byte) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	_, _ = w.Write(p) //nolint:gosec // quoted JSON, and said to be that
}
