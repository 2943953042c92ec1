package httpapi

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/account"
	"github.com/parley-im/parley/internal/broker"
	"github.com/parley-im/parley/internal/protocol/jsonform"
	"github.com/parley-im/parley/internal/protocol/jsonrpc"
)

// userHeader and deviceHeader say who somebody is where nobody is asked for a
// credential.
const (
	userHeader   = "Parley-User"
	deviceHeader = "Parley-Device"
)

// Sent is what became of a letter.
type Sent struct {
	ID         string      `json:"id"`
	Recipients []Recipient `json:"recipients"`
}

// Recipient is what became of it to one recipient.
type Recipient struct {
	To string `json:"to"`
	// Seq is its place in the recipient's inbox.
	Seq       parley.Seq `json:"seq,omitempty"`
	Duplicate bool       `json:"duplicate,omitempty"`
	Error     *Reason    `json:"error,omitempty"`
}

// ReadMarker is up to where a user has read their inbox.
type ReadMarker struct {
	Seq parley.Seq `json:"seq"`
	// Unread is how many messages from others are above.
	Unread int `json:"unread"`
}

// WhoAmI is who the server takes somebody for.
type WhoAmI struct {
	User    string    `json:"user"`
	Device  string    `json:"device,omitempty"`
	Expires time.Time `json:"expires,omitzero"`
	Grants  []string  `json:"grants"`
	// Open says that nobody is asked for a credential.
	Open bool `json:"open,omitempty"`
}

// person is who asks, as a user. Where nobody is asked for a credential, they say
// so themselves.
func (r *request) person() (*account.Principal, error) {
	who := r.principal()
	name, device := r.Header.Get(userHeader), r.Header.Get(deviceHeader)
	if !who.Open || who.User != "" {
		if name != "" || device != "" {
			return nil, invalid("%s and %s are for servers that ask for no credential", userHeader, deviceHeader)
		}
		return who, nil
	}
	if name == "" {
		return who, nil
	}
	var id parley.Identity
	var err error
	if id.User, err = parley.ParseUser(name); err != nil {
		return nil, err
	}
	if device != "" {
		if id.Device, err = parley.ParseDevice(device); err != nil {
			return nil, err
		}
	}
	return account.Anyone(id), nil
}

// somebody is who asks, who must be a user: an inbox is somebody's.
func (r *request) somebody() (*account.Principal, error) {
	who, err := r.person()
	if err == nil && who.User == "" {
		err = fmt.Errorf("only a user has an inbox: show a credential or, where the server asks for none, send %s: %w", userHeader, parley.ErrUnauthenticated)
	}
	return who, err
}

// send stores a message in the inboxes of users.
func (a *API) send(w http.ResponseWriter, r *request) error {
	who, letter, err := a.readLetter(w, r)
	if err != nil {
		a.cfg.Broker.Refused(err)
		return err
	}
	s := broker.Send{Letters: []broker.Letter{letter}, Watch: a.watch(r)}
	if a.cfg.Spend != nil {
		s.Watch.Spend = func(who *account.Principal, o account.Operation, t parley.Topic, bytes int) error {
			return a.cfg.Spend(r.Request, who, o, t, bytes)
		}
	}
	if err := a.cfg.Broker.Send(r.Context(), who, &s); err != nil {
		if r.Context().Err() != nil {
			return fmt.Errorf("storing takes too long, it may or may not happen: %w", parley.ErrUnavailable)
		}
		return err
	}
	if l := &s.Letters[0]; len(l.To) > 1 { // of a refusal for one, serve tells
		for i := range l.Results {
			if errors.Is(l.Results[i].Err, parley.ErrForbidden) {
				a.denied(r.Request, who, "send "+string(parley.InboxTopic(l.To[i])))
			}
		}
	}
	return replySent(w, &s.Letters[0])
}

// watch tells of what quotas refuse of r.
func (a *API) watch(r *request) *broker.Watch {
	w := &broker.Watch{}
	if a.cfg.Over != nil {
		w.Over = func(who *account.Principal, err error) { a.cfg.Over(r.Request, who, err) }
	}
	return w
}

// readLetter reads the one letter that a request is.
func (a *API) readLetter(w http.ResponseWriter, r *request) (*account.Principal, broker.Letter, error) {
	var l broker.Letter
	who, err := r.somebody()
	if err != nil {
		return nil, l, err
	}
	if _, err := bodyType(r.Header.Get("Content-Type"), objectType); err != nil {
		return nil, l, err
	}
	key, keyed, err := keyOf(r.Request)
	if err != nil {
		return nil, l, err
	}
	producer, err := producerOf(r)
	if err != nil {
		return nil, l, err
	}
	p, err := a.readBody(w, r.Request, a.batchBytes())
	if err != nil {
		return nil, l, err
	}
	var v jsonform.Letter
	if err := jsonrpc.DecodeBody(p, &v); err != nil {
		return nil, l, err
	}
	if keyed && v.ID == nil {
		v.ID = &key
	}
	l.Producer = producer
	return who, l, v.Fill(&l, a.cfg.Broker.Limits().Recipients)
}

// replySent tells the outcome of a letter. When it was refused for some recipient,
// that is a problem, so that no script takes it for success.
func replySent(w http.ResponseWriter, l *broker.Letter) error {
	if l.Err != nil {
		return l.Err
	}
	sent := Sent{ID: l.Message.ID, Recipients: []Recipient{}}
	outcomes := make([]Outcome, len(l.Results))
	var first error
	failed, fresh := 0, 0
	for i, result := range l.Results {
		if result.Err == nil {
			sent.Recipients = append(sent.Recipients, Recipient{To: l.To[i], Seq: result.Seq, Duplicate: result.Duplicate})
			outcomes[i] = Outcome{Seq: result.Seq, Duplicate: result.Duplicate}
			if !result.Duplicate {
				fresh++
			}
			continue
		}
		failed++
		if first == nil {
			first = result.Err
		}
		f := jsonform.Explain(result.Err)
		outcomes[i] = Outcome{Error: &Reason{Kind: f.Kind, Code: f.Code, Message: f.Message}}
	}
	switch {
	case first != nil && len(l.To) == 1:
		return first
	case first != nil:
		p := translate(first)
		p.Results = outcomes
		if p.Detail != "" {
			p.Detail = strconv.Itoa(failed) + " of " + strconv.Itoa(len(l.To)) + " recipients did not get it; " + p.Detail
		}
		p.write(w)
		return nil
	case fresh == 0:
		return reply(w, http.StatusOK, sent)
	}
	return reply(w, http.StatusCreated, sent)
}

// inbox answers with a page of the user's own inbox.
func (a *API) inbox(w http.ResponseWriter, r *request) error {
	who, err := r.somebody()
	if err != nil {
		return err
	}
	topic := parley.InboxTopic(who.User)
	if peer, ok := r.query["peer"]; ok {
		if peer, err = parley.ParseUser(peer); err != nil {
			return err
		}
		topic += parley.Topic("/" + peer)
	}
	q, err := r.within(topic)
	if err != nil {
		return err
	}
	r.who = who
	return a.replyHistory(w, r, q)
}

// unread answers with how much of the inbox the user has not read.
func (a *API) unread(w http.ResponseWriter, r *request) error {
	who, err := r.somebody()
	if err != nil {
		return err
	}
	m, err := a.cfg.Broker.Unread(r.Context(), who)
	if err != nil {
		return err
	}
	return reply(w, http.StatusOK, ReadMarker{m.Seq, m.Unread})
}

// markRead moves the user's read marker.
func (a *API) markRead(w http.ResponseWriter, r *request) error {
	who, err := r.somebody()
	if err != nil {
		return err
	}
	var v struct {
		Seq *parley.Seq `json:"seq"`
	}
	if err := readObject(a, w, r, &v); err != nil {
		return err
	}
	if v.Seq == nil || *v.Seq > parley.MaxSeq {
		return invalid("seq must be a whole number from 0 to 2^53")
	}
	m, err := a.cfg.Broker.MarkRead(r.Context(), who, *v.Seq)
	if err != nil {
		return err
	}
	return reply(w, http.StatusOK, ReadMarker{m.Seq, m.Unread})
}

// whoAmI answers with who asks.
func (a *API) whoAmI(w http.ResponseWriter, r *request) error {
	who, err := r.person()
	if err != nil {
		return err
	}
	return reply(w, http.StatusOK, WhoAmI{
		User: who.User, Device: who.Device, Expires: wireTime(who.Expires), Open: who.Open,
		Grants: append([]string{}, account.FormatGrants(who.Grants)...),
	})
}

// inboxRoutes are those of users.
func (a *API) inboxRoutes() []route {
	limits := a.cfg.Broker.Limits()
	who := []param{
		{in: inHeader, name: userHeader, schema: text(), text: "Who asks, at a server that asks for no credential."},
		{in: inHeader, name: deviceHeader, schema: text(), text: "Their device, likewise."},
	}
	peer := param{in: inQuery, name: "peer", schema: text(), text: "Only what the user and this one wrote to each other.", example: "bob"}
	needs := []int{http.StatusUnauthorized, http.StatusForbidden}
	return []route{
		{
			method: http.MethodPost, path: "/v1/send", id: "send", summary: "Send a message to users",
			text: "To the inbox of each of up to " + strconv.Itoa(limits.Recipients) + " users, with a copy in the sender's own, all at once. The answer comes when it is on " +
				"disk: 201, or 200 when it was stored by an earlier request. With an `id`, repeating it within 24 hours from the same device stores nothing twice.",
			params: append([]param{idempotencyKey("the `id` if there is none")}, who...),
			body: &body{"The message.", []content{
				{objectType, reference("Letter"), object{"to": "ann", "text": "hi", "receipts": true}},
			}},
			answer: only(http.StatusCreated, "It is stored.", "Sent"),
			faults: append(needs, http.StatusConflict, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType),
			serve:  a.send, publishes: true,
		},
		{
			method: http.MethodGet, path: "/v1/inbox", id: "inbox", summary: "Read a page of one's inbox",
			text:   "As `GET /v1/messages/…` does for a topic. Reading acknowledges nothing, and does not move the read marker.",
			params: append(append([]param{peer}, pageParams(limits.HistoryMessages)...), who...),
			answer: answer{http.StatusOK, "A page.", []param{linkHeader()}, []content{
				{jsonType, reference("Page"), nil}, {linesType, text(), nil},
			}},
			faults: needs, serve: a.inbox,
		},
		{
			method: http.MethodGet, path: "/v1/inbox/unread", id: "unread", summary: "How much one has not read",
			text:   "Messages from others above the read marker, counted up to " + strconv.Itoa(limits.Unread) + ". It is the same on all devices.",
			params: who, answer: only(http.StatusOK, "The marker.", "ReadMarker"), faults: needs, serve: a.unread,
		},
		{
			method: http.MethodPost, path: "/v1/inbox/read", id: "markRead", summary: "Say up to where one has read",
			text:   "Forward only, and for all devices; senders who wanted a receipt are told.",
			params: who,
			body:   &body{"Up to where.", []content{{objectType, reference("MarkRead"), object{"seq": exampleSeq}}}},
			answer: only(http.StatusOK, "The marker as it is now.", "ReadMarker"),
			faults: append(needs, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType), serve: a.markRead,
		},
		{
			method: http.MethodGet, path: "/v1/whoami", id: "whoami", summary: "Who the server takes one for",
			params: who, answer: only(http.StatusOK, "Who asks.", "WhoAmI"), faults: needs, serve: a.whoAmI,
		},
	}
}

// inboxSchemas are the shapes of what users send and read.
func inboxSchemas(recipients int) object {
	name := nameSchema()
	names := list(nameSchema())
	names["minItems"], names["maxItems"] = 1, recipients
	return object{
		"Letter": closed(schema{
			"to":       schema{"oneOf": []any{name, names}},
			"text":     described(text(), "The body, as text. Either this or data, or neither for an empty one."),
			"data":     described(schema{"type": "string", "contentEncoding": "base64"}, "The body, as base64."),
			"id":       idSchema(),
			"headers":  stringMap(),
			"expires":  timeSchema(),
			"receipts": described(boolean(), "Whether the sender is told when it is delivered and read."),
		}, "to"),
		"Sent": closed(schema{"id": text(), "recipients": list(reference("Recipient"))}, "id", "recipients"),
		"Recipient": closed(schema{
			"to": nameSchema(), "seq": seqSchema(), "duplicate": boolean(), "error": reference("Reason"),
		}, "to"),
		"MarkRead":   closed(schema{"seq": seqSchema()}, "seq"),
		"ReadMarker": closed(schema{"seq": seqSchema(), "unread": natural()}, "seq", "unread"),
		"WhoAmI": closed(schema{
			"user": text(), "device": text(), "expires": timeSchema(), "grants": grantsSchema(), "open": boolean(),
		}, "user", "grants"),
	}
}
