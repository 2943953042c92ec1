package httpapi

import (
	"math"
	"net/http"
	"strconv"
)

// table is everything that the API does.
func (a *API) table() []route {
	routes := append(a.publishRoutes(), a.readRoutes()...)
	if a.cfg.Subscribe != nil {
		routes = append(routes, a.subscribeRoute())
	}
	routes = append(routes, a.topicRoutes()...)
	routes = append(routes, a.retentionRoutes()...)
	routes = append(routes, a.inboxRoutes()...)
	routes = append(routes, a.accountRoutes()...)
	routes = append(routes, a.durableRoutes()...)
	return append(routes, a.documentRoutes()...)
}

func (a *API) publishRoutes() []route {
	limits := a.cfg.Broker.Limits()
	key := idempotencyKey("`producer`, and for the `id` of messages that have none")
	outcome := []content{{jsonType, reference("Outcome"), object{"topic": "/hello", "seq": exampleSeq}}}
	return []route{
		{
			method: http.MethodPost, path: "/v1/messages/{topic...}", id: "publish", summary: "Publish the body as a message",
			text: "The body is the message, byte for byte, at most " + strconv.Itoa(limits.MessageBytes) + " bytes. Its `Content-Type` is kept as the " +
				"message's header `Content-Type`, unless it is `" + formType + "`, which curl says of everything. Each request header " +
				"`Parley-Header-NAME` becomes the message's header `NAME`, spelt like `Some-Name`. The answer comes when the message is on disk: " +
				"201, or 200 when it was stored by an earlier request.",
			params: []param{
				topicParam("the topic to publish to"),
				{in: inQuery, name: "id", schema: idSchema(), text: "The publisher's own name for the message. With `producer` it makes the publish safe to repeat."},
				{in: inQuery, name: "producer", schema: producerSchema(), text: "Whose ids they are: 32 hex digits that nobody guesses. Needs `id`."},
				{in: inQuery, name: "expires", schema: timeSchema(), text: "When the message stops being worth delivering."},
				{in: inQuery, name: "ttl", schema: durationSchema(), text: "The same, as a duration from now.", example: "10m"},
				{
					in: inQuery, name: "filter.user_id", schema: text(), family: true,
					text: "Only readers who have this value under `user_id` get the message. `filter.KEY` works for any key; up to 16.",
				},
				{in: inHeader, name: "Parley-Header-NAME", schema: text(), text: "A header of the message, called NAME."},
				key,
			},
			body:   &body{"The message.", []content{{"*/*", schema{}, "hi"}}},
			answer: answer{http.StatusCreated, "It is stored.", []param{locationHeader()}, outcome},
			faults: []int{http.StatusForbidden, http.StatusConflict, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType},
			serve:  a.publish, publishes: true,
		},
		{
			method: http.MethodPost, path: "/v1/messages", id: "publishBatch", summary: "Publish messages described in JSON",
			text: "One object is one message; an object with `messages`, or an object on each line, is a batch of up to " +
				strconv.Itoa(limits.BatchMessages) + " that is stored together and in order. What is not strict JSON or breaks a rule refuses the whole. " +
				"When the store refuses some of a batch, the answer is a problem whose `results` tell the outcome of each. " +
				"A single message is answered like a publish to its topic, a batch with `results`.",
			params: []param{key},
			body: &body{"At most " + strconv.FormatInt(a.batchBytes(), 10) + " bytes.", []content{
				{objectType, schema{"oneOf": []any{reference("Publication"), reference("Publications")}}, object{"topic": "/hello", "text": "hi"}},
				{linesType, text(), "{\"topic\":\"/hello\",\"text\":\"one\"}\n{\"topic\":\"/hello\",\"text\":\"two\"}\n"},
			}},
			answer: answer{http.StatusOK, "They are stored.", nil, []content{
				{jsonType, schema{"oneOf": []any{reference("Outcome"), reference("Results")}}, object{"topic": "/hello", "seq": exampleSeq}},
			}},
			faults: []int{http.StatusForbidden, http.StatusConflict, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType},
			serve:  a.publishJSON, publishes: true,
		},
	}
}

// idempotencyKey is the header that makes a request repeatable.
func idempotencyKey(standsFor string) param {
	return param{
		in: inHeader, name: "Idempotency-Key", schema: schema{"type": "string", "minLength": keyLeast, "maxLength": keyMost},
		text: "Makes the request safe to repeat for 24 hours: a key that nobody else uses, such as a UUID, and the same one in each " +
			"repetition. It stands for " + standsFor + ".",
	}
}

// spanParams bound what stored messages are meant.
func spanParams() []param {
	return []param{
		{in: inQuery, name: "after", schema: seqSchema(), text: "Only messages above this seq."},
		{in: inQuery, name: "before", schema: seqSchema(), text: "Only messages below this seq."},
		{in: inQuery, name: "since", schema: text(), text: "Only messages stored at this time or later, or how long ago.", example: "10m"},
	}
}

// pageParams are those of a page of at most that many messages.
func pageParams(most int) []param {
	return append(spanParams(),
		param{in: inQuery, name: "limit", schema: number(1, most), text: "At most so many messages; " + strconv.Itoa(historyDefault) + " unless given.", example: 10},
		param{in: inQuery, name: "reverse", schema: boolean(), text: "The newest first."},
		param{in: inQuery, name: "last", schema: number(1, most), text: "The newest so many, the oldest of them first. Stands without `after`, `limit` and `reverse`.", example: 10},
	)
}

func (a *API) readRoutes() []route {
	most := a.cfg.Broker.Limits().HistoryMessages
	covers := topicParam("the topic; those below it are covered too")
	span := append([]param{covers}, spanParams()...)
	page := append([]param{covers}, pageParams(most)...)
	return []route{
		{
			method: http.MethodGet, path: "/v1/messages/{topic...}", id: "history", summary: "Read a page of stored messages",
			text: "Messages of the topic and of those below it, in order. To read on, give `next` as `after` (as `before` when reading " +
				"in reverse) or follow the `Link`; `more` says whether there may be more now. Messages up to `floor` have been removed: a reader whose " +
				"`after` is below it has a gap. With `Accept: " + linesType + "` each message stands on a line of its own.",
			params: page,
			answer: answer{http.StatusOK, "A page.", []param{linkHeader()}, []content{
				{jsonType, reference("Page"), nil}, {linesType, text(), nil},
			}},
			faults: []int{http.StatusForbidden},
			serve:  a.history,
		},
		{
			method: http.MethodGet, path: "/v1/body/{topic...}", id: "body", summary: "Get the body of one message",
			text: "The body as it was published, with the content type that it was published with. Without `seq` it is that of the newest message " +
				"at the topic or below it. Ranges and `If-None-Match` work.",
			params: []param{
				topicParam("the topic; those below it are covered too"),
				{in: inQuery, name: "seq", schema: seqSchema(), text: "Which message."},
			},
			answer: answer{http.StatusOK, "The body.", []param{
				{name: "Content-Location", schema: text(), text: "Where this message is, with its own topic and seq."},
				{name: "ETag", schema: text(), text: "The seq in quotes."},
				{name: "Parley-Time", schema: timeSchema(), text: "When it was stored."},
				{name: "Parley-Id", schema: text(), text: "Its id, percent-encoded."},
			}, []content{{"*/*", schema{}, nil}}},
			faults: []int{http.StatusForbidden, http.StatusNotFound},
			serve:  a.body,
		},
		{
			method: http.MethodGet, path: "/v1/count/{topic...}", id: "count", summary: "Count stored messages",
			params: span,
			answer: answer{http.StatusOK, "How many there are.", nil, []content{{jsonType, reference("Counted"), nil}}},
			faults: []int{http.StatusForbidden},
			serve:  a.count,
		},
	}
}

func (a *API) subscribeRoute() route {
	return route{
		method: http.MethodGet, path: "/v1/subscribe/{topic...}", id: "subscribe", summary: "Follow a topic",
		text: "Server-sent events, as long as the client stays: messages of the topic and of those below it, and notices such as a gap. " +
			"Begins live unless one of `after`, `since` and `last` is given. A client that comes back says where it was by `Last-Event-ID`.",
		params: []param{
			topicParam("the topic; those below it are covered too"),
			{in: inQuery, name: "after", schema: seqSchema(), text: "Begin with the first message above this seq; 0 is the oldest."},
			{in: inQuery, name: "since", schema: text(), text: "Begin at this time, or so long ago.", example: "10m"},
			{in: inQuery, name: "last", schema: number(1, math.MaxInt32), text: "Begin with the newest so many.", example: 10},
			{in: inQuery, name: "replay_only", schema: boolean(), text: "End after what is stored."},
			{in: inQuery, name: "max", schema: schema{"type": "integer", "minimum": 1}, text: "End after so many messages; needs `replay_only`."},
			{in: inQuery, name: "lastEventId", schema: text(), text: "The same as Last-Event-ID, for clients that cannot send a header."},
			{in: inHeader, name: "Last-Event-ID", schema: text(), text: "The id of the last event that the client has."},
		},
		answer:  answer{http.StatusOK, "A stream of events.", nil, []content{{"text/event-stream", text(), nil}}},
		faults:  []int{http.StatusForbidden, http.StatusNotAcceptable},
		handler: a.cfg.Subscribe,
	}
}

func (a *API) topicRoutes() []route {
	return []route{
		{
			method: http.MethodGet, path: "/v1/topics", audience: everybody, id: "listTopics", summary: "List the streams",
			text: "A stream is a topic's first segment and all below it. They come in order of name.",
			params: []param{
				{in: inQuery, name: "prefix", schema: text(), text: "Only those that begin with this.", example: "/"},
				{in: inQuery, name: "after", schema: text(), text: "Only those behind this one: the last of the page before."},
				{in: inQuery, name: "limit", schema: number(1, listMost), text: "At most so many; " + strconv.Itoa(listDefault) + " unless given."},
			},
			answer: answer{http.StatusOK, "A page.", nil, []content{{jsonType, reference("List"), nil}}},
			serve:  a.list,
		},
		{
			method: http.MethodGet, path: "/v1/topics/{topic...}", audience: everybody, id: "showTopic", summary: "Look at one topic",
			params: []param{topicParam("the topic; those below it are counted too")},
			answer: answer{http.StatusOK, "What is stored.", nil, []content{{jsonType, reference("Topic"), nil}}},
			faults: []int{http.StatusForbidden, http.StatusNotFound},
			serve:  a.show,
		},
		{
			method: http.MethodDelete, path: "/v1/topics/{topic...}", audience: operators, id: "purgeTopic", summary: "Remove every message of a stream",
			text:   "There is no way back. The topic must have one segment, because a stream is what is stored together.",
			params: []param{topicParam("the stream's topic")},
			answer: answer{http.StatusOK, "They are removed.", nil, []content{{jsonType, reference("Purged"), nil}}},
			faults: []int{http.StatusForbidden, http.StatusNotFound},
			serve:  a.purge,
		},
	}
}

func (a *API) retentionRoutes() []route {
	stream := param{in: inPath, name: "stream", schema: text(), text: "A topic's first segment, without slashes.", example: "orders"}
	match := []param{
		stream,
		{in: inHeader, name: "If-Match", schema: text(), text: "Only if this is still the ETag of what is set."},
		{in: inHeader, name: "If-None-Match", schema: text(), text: "`*`: only if nothing is set."},
	}
	rule := answer{
		http.StatusOK, "The rule in force.",
		[]param{{name: "ETag", schema: text(), text: "Of what is set."}},
		[]content{{jsonType, reference("Retention"), nil}},
	}
	return []route{
		{
			method: http.MethodGet, path: "/v1/retention/{stream}", audience: everybody, id: "showRetention", summary: "See what a stream keeps",
			params: []param{stream}, answer: rule, faults: []int{http.StatusForbidden}, serve: a.showRetention,
		},
		{
			method: http.MethodPut, path: "/v1/retention/{stream}", audience: operators, id: "setRetention", summary: "Say what a stream keeps",
			text: "The first bound that is exceeded drops the oldest messages. It is applied at once and once a minute, survives restarts, and wins " +
				"over the configuration.",
			params: match,
			body:   &body{"The rule; a bound that is absent keeps everything.", []content{{objectType, reference("Rule"), object{"age": "30d"}}}},
			answer: rule,
			faults: []int{http.StatusForbidden, http.StatusPreconditionFailed, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType},
			serve:  a.setRetention,
		},
		{
			method: http.MethodDelete, path: "/v1/retention/{stream}", audience: operators, id: "resetRetention", summary: "Let the configuration decide again",
			params: match, answer: rule,
			faults: []int{http.StatusForbidden, http.StatusNotFound, http.StatusPreconditionFailed}, serve: a.resetRetention,
		},
	}
}

func (a *API) documentRoutes() []route {
	return []route{
		{
			method: http.MethodGet, path: "/v1/openapi.json", audience: everybody, public: true, id: "openapi", summary: "This description",
			answer: answer{http.StatusOK, "OpenAPI 3.1.", nil, []content{{jsonType, schema{"type": "object"}, nil}}},
			serve:  a.serveDocument,
		},
		page("/v1/docs", "docs", "A page to read this and try it", "text/html; charset=utf-8", pageHTML),
		page("/v1/docs/page.css", "docsStyle", "The page's style", "text/css; charset=utf-8", pageCSS),
		page("/v1/docs/page.js", "docsScript", "The page's program", "text/javascript; charset=utf-8", pageJS),
	}
}
