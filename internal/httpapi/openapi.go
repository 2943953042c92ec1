package httpapi

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
)

// describe makes the OpenAPI document of the routes.
func (a *API) describe() []byte {
	paths := object{}
	for i := range a.routes {
		rt := &a.routes[i]
		name := strings.ReplaceAll(rt.path, "...}", "}")
		item, ok := paths[name].(object)
		if !ok {
			item = object{}
			paths[name] = item
		}
		item[strings.ToLower(rt.method)] = rt.operation()
	}
	document := object{
		"openapi": "3.1.0",
		"info": object{
			"title": "Parley", "version": a.cfg.Version, "license": object{"name": "MIT", "identifier": "MIT"},
			"description": "Publish and read messages over HTTP. A topic in a path keeps its slashes, `/v1/messages/orders/eu`, or has them as `%2F`. " +
				"Errors are problem details (RFC 9457) whose `code` never changes its meaning; those with `retry` may be repeated, after `Retry-After`.",
		},
		"servers": []any{object{"url": "/"}},
		"tags":    tags(),
		"paths":   paths,
		"components": object{
			"schemas": a.schemas(), "responses": object{"Problem": problemResponse("Something is wrong.")},
			"securitySchemes": object{
				"bearer": object{"type": "http", "scheme": "bearer", "description": "A token (JWT) or an API key."},
				"basic":  object{"type": "http", "scheme": "basic", "description": "Any user name of the key's, or none, and an API key as the password. Not for pages."},
				"query":  object{"type": "apiKey", "in": "query", "name": "access_token", "description": "The same as bearer, for clients that cannot send a header."},
			},
		},
	}
	p, err := json.MarshalIndent(document, "", " ")
	if err != nil {
		panic("httpapi: " + err.Error()) // it is made of maps and texts only
	}
	return append(p, '\n')
}

func tags() []any {
	return []any{
		object{"name": "messages", "description": "Publish, and read what was published."},
		object{"name": "topics", "description": "What is stored, and for how long."},
		object{"name": "inbox", "description": "Send to users, and read what one was sent."},
		object{"name": "users", "description": "Users, their devices, and what proves who they are. For operators."},
		object{"name": "durable", "description": "Durable subscriptions, and what they could not deal with. For operators."},
		object{"name": "operators", "description": "For operators: programs on the server's own machine, or on the listener of `--admin-listen`."},
		object{"name": "description", "description": "This description."},
	}
}

// tag says which chapter a route belongs to.
func (rt *route) tag() string {
	switch {
	case strings.HasPrefix(rt.path, "/v1/inbox") || rt.path == "/v1/send" || rt.path == "/v1/whoami":
		return "inbox"
	case isAccount(rt.path):
		return "users"
	case strings.HasPrefix(rt.path, "/v1/subscriptions") || strings.HasPrefix(rt.path, "/v1/dead-letters"):
		return "durable"
	case rt.audience == operators:
		return "operators"
	case strings.HasPrefix(rt.path, "/v1/topics") || strings.HasPrefix(rt.path, "/v1/retention"):
		return "topics"
	case strings.HasPrefix(rt.path, "/v1/docs") || strings.HasPrefix(rt.path, "/v1/openapi"):
		return "description"
	}
	return "messages"
}

// isAccount reports whether a path has to do with users and credentials.
func isAccount(path string) bool {
	for _, of := range []string{"users", "tokens", "keys", "certificates"} {
		if strings.HasPrefix(path, prefix+of) {
			return true
		}
	}
	return false
}

func (rt *route) operation() object {
	responses := object{
		strconv.Itoa(rt.answer.status): rt.answer.describe(),
		"400":                          problemResponse("The request breaks a rule."),
		"503":                          problemResponse("Not now: the same request may succeed later."),
		"default":                      object{"$ref": "#/components/responses/Problem"},
	}
	if !rt.public {
		responses["401"] = problemResponse("There is no credential, or it is not accepted. Without authentication in the server nobody is asked.")
		responses["403"] = problemResponse("Who asks may not do this.")
		responses["429"] = problemResponse("Too much of it: again after `Retry-After`.")
	}
	if rt.id == "publish" || rt.id == "publishBatch" || rt.id == "send" {
		responses["507"] = problemResponse("The sender has as much stored as they may: again when older messages are removed, at the earliest after `Retry-After`.")
	}
	if rt.id == "publish" || rt.id == "publishBatch" {
		responses["200"] = (&answer{text: "They are stored, or were by an earlier request.", content: rt.answer.content, headers: rt.answer.headers}).describe()
		responses["201"] = (&answer{text: "A single message is stored.", content: outcomeOnly(), headers: []param{locationHeader()}}).describe()
	}
	if rt.id == "send" {
		responses["200"] = (&answer{text: "It was stored by an earlier request.", content: rt.answer.content}).describe()
	}
	for _, status := range rt.faults {
		responses[strconv.Itoa(status)] = problemResponse(http.StatusText(status) + ".")
	}
	o := object{"operationId": rt.id, "summary": rt.summary, "tags": []any{rt.tag()}, "responses": responses}
	if !rt.public { // or none, where the server asks for none
		o["security"] = []any{object{"bearer": []any{}}, object{"basic": []any{}}, object{"query": []any{}}, object{}}
	}
	if rt.text != "" {
		o["description"] = rt.text
	}
	var params []any
	for i := range rt.params {
		params = append(params, rt.params[i].describe())
	}
	if params != nil {
		o["parameters"] = params
	}
	if rt.body != nil {
		o["requestBody"] = object{"description": rt.body.text, "required": true, "content": describeContent(rt.body.content)}
	}
	return o
}

func outcomeOnly() []content { return []content{{jsonType, reference("Outcome"), nil}} }

func (p *param) describe() object {
	o := object{"name": p.name, "in": string(p.in), "description": p.text, "schema": p.schema}
	if p.in == inPath {
		o["required"] = true
	}
	if p.example != nil {
		o["example"] = p.example
	}
	return o
}

func (r *answer) describe() object {
	o := object{"description": r.text, "content": describeContent(r.content)}
	headers := object{}
	for _, h := range r.headers {
		headers[h.name] = object{"description": h.text, "schema": h.schema}
	}
	if len(headers) > 0 {
		o["headers"] = headers
	}
	return o
}

func describeContent(contents []content) object {
	o := object{}
	for _, c := range contents {
		mediaType, _, _ := strings.Cut(c.mediaType, ";")
		item := object{"schema": c.schema}
		if c.example != nil {
			item["example"] = c.example
		}
		o[mediaType] = item
	}
	return o
}

func problemResponse(text string) object {
	return object{"description": text, "content": object{"application/problem+json": object{"schema": reference("Problem")}}}
}

// serveDocument answers with the OpenAPI document.
func (a *API) serveDocument(w http.ResponseWriter, _ *request) error {
	writeAll(w, jsonType, a.document)
	return nil
}
