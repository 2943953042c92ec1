package httpapi

import (
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/broker"
	"github.com/parley-im/parley/internal/protocol/jsonform"
)

// Durable is a durable subscription, or the place of a device in its user's inbox.
type Durable struct {
	Owner string       `json:"owner"`
	Name  string       `json:"name"`
	Topic parley.Topic `json:"topic"`
	// All up to Floor is done; all up to Cursor was delivered once.
	Floor  parley.Seq `json:"floor"`
	Cursor parley.Seq `json:"cursor"`
	// Lag is how many stored messages are not done.
	Lag      int       `json:"lag"`
	InFlight int       `json:"in_flight"`
	Waiting  int       `json:"waiting"`
	Members  int       `json:"members"`
	Paused   bool      `json:"paused"`
	Active   time.Time `json:"active,omitzero"`
}

// Durables are those of an owner.
type Durables struct {
	Subscriptions []Durable `json:"subscriptions"`
	More          bool      `json:"more"`
}

// DeadLetter is a message that a durable subscription could not deal with.
type DeadLetter struct {
	Seq      parley.Seq      `json:"seq"`
	Time     time.Time       `json:"time"`
	Owner    string          `json:"owner"`
	Name     string          `json:"name"`
	Topic    parley.Topic    `json:"topic"`
	Reason   string          `json:"reason"`
	Attempts int             `json:"attempts"`
	Message  json.RawMessage `json:"message"`
}

// DeadLetters is one page of dead letters, in the order of their deaths.
type DeadLetters struct {
	Letters []DeadLetter `json:"letters"`
	// Next continues the list, as after.
	Next parley.Seq `json:"next"`
	More bool       `json:"more"`
}

// Done names a dead letter that was dealt with.
type Done struct {
	Owner string     `json:"owner"`
	Seq   parley.Seq `json:"seq"`
}

func durableOf(c broker.ConsumerInfo) Durable {
	return Durable{
		Owner: c.Owner, Name: c.Name, Topic: c.Topic, Floor: c.Floor, Cursor: c.Cursor, Lag: c.Lag,
		InFlight: c.InFlight, Waiting: c.Waiting, Members: c.Members, Paused: c.Paused, Active: wireTime(c.Active),
	}
}

// everyOwner is the parameter owner for all of them.
const everyOwner = "*"

// owner is whose subscriptions the query names; empty is nobody's, as of clients
// that were asked for no credential.
func (r *request) owner() (string, error) {
	name := r.query["owner"]
	if name == "" {
		return "", nil
	}
	return parley.ParseUser(name)
}

// listDurables answers with an owner's durable subscriptions.
func (a *API) listDurables(w http.ResponseWriter, r *request) error {
	owner, err := everyOwner, error(nil)
	if r.query["owner"] != everyOwner {
		owner, err = r.owner()
	}
	if err != nil {
		return err
	}
	limit, err := r.number("limit", accountsMost, accountsMost)
	if err != nil {
		return err
	}
	list, more, err := take(a.cfg.Broker.Consumers(r.Context(), owner), limit, durableOf)
	if err != nil {
		return err
	}
	return reply(w, http.StatusOK, Durables{list, more})
}

// durable is the subscription that a request names.
func (r *request) durable() (broker.ConsumerID, error) {
	var id broker.ConsumerID
	var err error
	if id.Topic, err = r.topic(); err != nil {
		return id, err
	}
	if id.Owner, err = r.owner(); err != nil {
		return id, err
	}
	if id.Name = r.query["name"]; id.Name == broker.LegacyDevice {
		return id, nil
	}
	id.Name, err = parley.ParseDevice(id.Name)
	return id, err
}

func (a *API) replyDurable(w http.ResponseWriter, r *request, id broker.ConsumerID) error {
	c, err := a.cfg.Broker.Consumer(r.Context(), id)
	if err != nil {
		return err
	}
	return reply(w, http.StatusOK, durableOf(c))
}

// showDurable answers with one durable subscription.
func (a *API) showDurable(w http.ResponseWriter, r *request) error {
	id, err := r.durable()
	if err != nil {
		return err
	}
	return a.replyDurable(w, r, id)
}

// durableBody is what can be changed of a durable subscription.
type durableBody struct {
	Paused *bool       `json:"paused"`
	After  *parley.Seq `json:"after"`
	Since  *string     `json:"since"`
	Last   *int        `json:"last"`
	Now    *bool       `json:"now"`
}

// start is where b sets the subscription's place, if it does.
func (b *durableBody) start() (s broker.Start, given bool, err error) {
	n := 0
	if b.After != nil {
		n++
		if s.Kind, s.Seq = broker.AfterSeq, *b.After; s.Seq > parley.MaxSeq {
			return s, false, invalid("after must be a whole number from 0 to 2^53")
		}
	}
	if b.Since != nil {
		n++
		s.Kind = broker.SinceTime
		if s.Time, err = sinceOf(*b.Since); err != nil {
			return s, false, err
		}
	}
	if b.Last != nil {
		n++
		if s.Kind, s.Last = broker.NewestN, *b.Last; s.Last < 0 {
			return s, false, invalid("last must be at least 0")
		}
	}
	if b.Now != nil {
		n++
		if s.Kind = broker.FromNow; !*b.Now {
			return s, false, invalid("now must be true, or not be there")
		}
	}
	if n > 1 {
		return s, false, invalid("only one of after, since, last and now")
	}
	return s, n == 1, nil
}

// changeDurable pauses or resumes a durable subscription, or sets its place.
func (a *API) changeDurable(w http.ResponseWriter, r *request) error {
	id, err := r.durable()
	if err != nil {
		return err
	}
	var v durableBody
	if err := readObject(a, w, r, &v); err != nil {
		return err
	}
	start, seek, err := v.start()
	if err != nil {
		return err
	}
	if !seek && v.Paused == nil {
		return invalid("give paused, or one of after, since, last and now")
	}
	if seek {
		if err := a.cfg.Broker.SeekConsumer(r.Context(), id, start); err != nil {
			return err
		}
	}
	if v.Paused != nil {
		if err := a.cfg.Broker.PauseConsumer(r.Context(), id, *v.Paused); err != nil {
			return err
		}
	}
	a.cfg.Logger.InfoContext(r.Context(), "durable subscription changed", "owner", id.Owner, "name", id.Name, "topic", string(id.Topic), "seek", seek)
	return a.replyDurable(w, r, id)
}

// deleteDurable removes a durable subscription, and answers with where it stood.
func (a *API) deleteDurable(w http.ResponseWriter, r *request) error {
	id, err := r.durable()
	if err != nil {
		return err
	}
	c, err := a.cfg.Broker.Consumer(r.Context(), id)
	if err != nil {
		return err
	}
	if err := a.cfg.Broker.DeleteConsumer(r.Context(), id); err != nil {
		return err
	}
	a.cfg.Logger.InfoContext(r.Context(), "durable subscription deleted", "owner", id.Owner, "name", id.Name, "topic", string(id.Topic))
	return reply(w, http.StatusOK, durableOf(c))
}

func letterOf(l *broker.DeadLetter) DeadLetter {
	return DeadLetter{
		Seq: l.Seq, Time: wireTime(l.Time), Owner: l.Consumer.Owner, Name: l.Consumer.Name, Topic: l.Consumer.Topic,
		Reason: l.Reason, Attempts: l.Attempts, Message: jsonform.AppendMessage(nil, l.Message),
	}
}

// listDeadLetters answers with a page of an owner's dead letters.
func (a *API) listDeadLetters(w http.ResponseWriter, r *request) error {
	owner, err := r.owner()
	if err != nil {
		return err
	}
	after, err := r.seq("after")
	if err != nil {
		return err
	}
	most := a.cfg.Broker.Limits().HistoryMessages
	limit, err := r.number("limit", min(historyDefault, most), most)
	if err != nil {
		return err
	}
	letters, next, err := a.cfg.Broker.DeadLetters(r.Context(), owner, after, limit)
	if err != nil {
		return err
	}
	page := DeadLetters{Letters: []DeadLetter{}, Next: next, More: next != 0}
	size := 0
	for i := range letters {
		page.Letters = append(page.Letters, letterOf(&letters[i]))
		size += len(page.Letters[i].Message)
	}
	return a.answerBody(size, func() { _ = reply(w, http.StatusOK, page) })
}

// deadLetter is the owner and the seq that a request names.
func (r *request) deadLetter() (Done, error) {
	owner, err := r.owner()
	if err != nil {
		return Done{}, err
	}
	n, err := strconv.ParseUint(r.PathValue("seq"), 10, 64)
	if err != nil || n == 0 || parley.Seq(n) > parley.MaxSeq {
		return Done{}, invalid("a dead letter is named by its seq")
	}
	return Done{owner, parley.Seq(n)}, nil
}

// replayDeadLetter has a dead letter delivered again.
func (a *API) replayDeadLetter(w http.ResponseWriter, r *request) error {
	d, err := r.deadLetter()
	if err != nil {
		return err
	}
	if err := a.cfg.Broker.ReplayDeadLetter(r.Context(), d.Owner, d.Seq); err != nil {
		return err
	}
	a.cfg.Logger.InfoContext(r.Context(), "dead letter replayed", "owner", d.Owner, "seq", uint64(d.Seq))
	return reply(w, http.StatusOK, d)
}

// removeDeadLetter removes a dead letter.
func (a *API) removeDeadLetter(w http.ResponseWriter, r *request) error {
	d, err := r.deadLetter()
	if err != nil {
		return err
	}
	if err := a.cfg.Broker.RemoveDeadLetters(r.Context(), d.Owner, broker.SeqRange{First: d.Seq, Last: d.Seq}); err != nil {
		return err
	}
	a.cfg.Logger.InfoContext(r.Context(), "dead letter removed", "owner", d.Owner, "seq", uint64(d.Seq))
	return reply(w, http.StatusOK, d)
}

// durableRoutes are those of durable subscriptions and dead letters.
func (a *API) durableRoutes() []route {
	denied, missing := []int{http.StatusForbidden}, []int{http.StatusForbidden, http.StatusNotFound}
	owner := param{in: inQuery, name: "owner", schema: text(), text: "The user whose it is; none is nobody, as at a server that asks for no credential.", example: "billing"}
	one := []param{topicParam("what is subscribed to"), owner, {in: inQuery, name: "name", schema: nameSchema(), text: "Its name. For an inbox, that of the device.", example: "billing"}}
	seq := param{in: inPath, name: "seq", schema: seqSchema(), text: "The dead letter's seq, as the list has it.", example: exampleSeq}
	most := a.cfg.Broker.Limits().HistoryMessages
	return []route{
		{
			method: http.MethodGet, path: "/v1/subscriptions", audience: operators, id: "listSubscriptions", summary: "List durable subscriptions and their lag",
			text: "Those of one owner, up to 1,000; the places of a user's devices in their inbox are among them. `owner=*` is everybody's.",
			params: []param{
				owner, {in: inQuery, name: "limit", schema: number(1, accountsMost), text: "At most so many."},
			},
			answer: only(http.StatusOK, "In order of owner, name and topic.", "Durables"), faults: denied, serve: a.listDurables,
		},
		{
			method: http.MethodGet, path: "/v1/subscriptions/{topic...}", audience: operators, id: "showSubscription", summary: "Look at a durable subscription",
			params: one, answer: only(http.StatusOK, "Where it stands.", "Durable"), faults: missing, serve: a.showDurable,
		},
		{
			method: http.MethodPatch, path: "/v1/subscriptions/{topic...}", audience: operators, id: "changeSubscription", summary: "Pause, resume or seek a durable subscription",
			text: "A paused one delivers nothing until it is resumed. `after`, `since`, `last` or `now` sets where it goes on, and forgets what was " +
				"in flight.",
			params: one,
			body:   &body{"What to change.", []content{{objectType, reference("DurableChange"), object{"paused": true}}}},
			answer: only(http.StatusOK, "Where it stands now.", "Durable"), faults: bodyFaults(http.StatusNotFound), serve: a.changeDurable,
		},
		{
			method: http.MethodDelete, path: "/v1/subscriptions/{topic...}", audience: operators, id: "deleteSubscription", summary: "Delete a durable subscription",
			text:   "Its place is forgotten, and who uses it is told. No message is removed.",
			params: one, answer: only(http.StatusOK, "Where it stood.", "Durable"), faults: missing, serve: a.deleteDurable,
		},
		{
			method: http.MethodGet, path: "/v1/dead-letters", audience: operators, id: "listDeadLetters", summary: "List dead letters",
			text: "Messages that were delivered too often without being acknowledged, or refused for good, with the reason.",
			params: []param{
				owner,
				{in: inQuery, name: "after", schema: seqSchema(), text: "Only those behind this one: `next` of the page before."},
				{in: inQuery, name: "limit", schema: number(1, most), text: "At most so many; " + strconv.Itoa(historyDefault) + " unless given."},
			},
			answer: only(http.StatusOK, "A page.", "DeadLetters"), faults: denied, serve: a.listDeadLetters,
		},
		{
			method: http.MethodPost, path: "/v1/dead-letters/{seq}/replay", audience: operators, id: "replayDeadLetter", summary: "Deliver a dead letter again",
			text:   "By the subscription that it comes from. It is no dead letter then.",
			params: []param{seq, owner}, answer: only(http.StatusOK, "It will be.", "Done"), faults: missing, serve: a.replayDeadLetter,
		},
		{
			method: http.MethodDelete, path: "/v1/dead-letters/{seq}", audience: operators, id: "removeDeadLetter", summary: "Remove a dead letter",
			params: []param{seq, owner}, answer: only(http.StatusOK, "It is removed.", "Done"), faults: missing, serve: a.removeDeadLetter,
		},
	}
}

// durableSchemas are the shapes of durable subscriptions and dead letters.
func durableSchemas() object {
	return object{
		"Durable": closed(schema{
			"owner": text(), "name": text(), "topic": topicSchema(),
			"floor":     described(seqSchema(), "All up to it is done."),
			"cursor":    described(seqSchema(), "All up to it was delivered once."),
			"lag":       described(natural(), "How many stored messages are not done, up to a million."),
			"in_flight": described(natural(), "Delivered and not acknowledged."),
			"waiting":   described(natural(), "To be delivered again."),
			"members":   described(natural(), "How many subscribe by it now."),
			"paused":    boolean(), "active": described(timeSchema(), "When it was last used, to the hour."),
		}, "owner", "name", "topic", "floor", "cursor", "lag", "in_flight", "waiting", "members", "paused"),
		"Durables": closed(schema{"subscriptions": list(reference("Durable")), "more": boolean()}, "subscriptions", "more"),
		"DurableChange": closed(schema{
			"paused": boolean(), "after": seqSchema(), "since": described(text(), "A time, or how long ago."), "last": natural(),
			"now": described(boolean(), "Go on with what is published from now on."),
		}),
		"DeadLetter": closed(schema{
			"seq": seqSchema(), "time": timeSchema(), "owner": text(), "name": text(), "topic": topicSchema(), "reason": text(), "attempts": natural(),
			"message": reference("Message"),
		}, "seq", "time", "owner", "name", "topic", "reason", "attempts", "message"),
		"DeadLetters": closed(schema{"letters": list(reference("DeadLetter")), "next": seqSchema(), "more": boolean()}, "letters", "next", "more"),
		"Done":        closed(schema{"owner": text(), "seq": seqSchema()}, "owner", "seq"),
	}
}
