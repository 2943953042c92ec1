package httpapi

// schema is a JSON Schema, as OpenAPI 3.1 has it.
type schema = object

// object is a JSON object in the document.
type object = map[string]any

// exampleSeq is a seq in examples: of 2026, in microseconds.
const exampleSeq = 1798761600000000

func reference(name string) schema { return schema{"$ref": "#/components/schemas/" + name} }
func text() schema                 { return schema{"type": "string"} }
func boolean() schema              { return schema{"type": "boolean"} }
func timeSchema() schema           { return schema{"type": "string", "format": "date-time"} }
func durationSchema() schema       { return schema{"type": "string", "examples": []any{"90s", "10m", "7d"}} }

func idSchema() schema { return schema{"type": "string", "minLength": 1, "maxLength": 255} }

func producerSchema() schema { return schema{"type": "string", "pattern": "^[0-9a-fA-F]{32}$"} }

func topicSchema() schema { return schema{"type": "string", "pattern": "^/", "maxLength": 255} }

func stringMap() schema     { return schema{"type": "object", "additionalProperties": text()} }
func list(of schema) schema { return schema{"type": "array", "items": of} }

func number(least, most int) schema {
	return schema{"type": "integer", "minimum": least, "maximum": most}
}

func natural() schema { return schema{"type": "integer", "minimum": 0} }

func seqSchema() schema {
	return schema{"type": "integer", "format": "int64", "minimum": 0, "maximum": int64(1) << 53}
}

func choice(words ...string) schema {
	values := make([]any, len(words))
	for i, w := range words {
		values[i] = w
	}
	return schema{"type": "string", "enum": values}
}

// closed is an object with these members and no other.
func closed(members schema, required ...string) schema {
	s := schema{"type": "object", "properties": members, "additionalProperties": false}
	if len(required) > 0 {
		s["required"] = required
	}
	return s
}

// described adds a description to s.
func described(s schema, text string) schema {
	s["description"] = text
	return s
}

// kinds and codes are the words of errors; they never change their meaning.
func kinds() schema {
	return choice("invalid", "unauthenticated", "forbidden", "not_found", "conflict", "unavailable", "internal")
}

func codes() schema {
	return choice("invalid", "unauthenticated", "forbidden", "not_found", "conflict", "unavailable", "internal",
		"storage_full", "overloaded", "rate_limited", "quota_exceeded", "too_large", "unsupported_media_type", "method_not_allowed", "precondition_failed", "timeout")
}

// schemas are the shapes of what goes in and out.
func (a *API) schemas() object {
	batch := a.cfg.Broker.Limits().BatchMessages
	publication := func() schema {
		return schema{
			"topic":   topicSchema(),
			"text":    described(text(), "The body, as text. Either this or data, or neither for an empty one."),
			"data":    described(schema{"type": "string", "contentEncoding": "base64"}, "The body, as base64."),
			"id":      idSchema(),
			"headers": stringMap(),
			"expires": timeSchema(),
			"filters": described(schema{"type": "object", "additionalProperties": text(), "maxProperties": 16}, "Who gets it: readers with these values."),
		}
	}
	single := publication()
	single["producer"] = producerSchema()
	many := list(closed(publication(), "topic"))
	many["minItems"], many["maxItems"] = 1, batch
	return with(with(with(accountSchemas(), inboxSchemas(a.cfg.Broker.Limits().Recipients)), durableSchemas()), object{
		"Publication":  closed(single, "topic"),
		"Publications": closed(schema{"messages": many, "producer": producerSchema()}, "messages"),
		"Message": closed(schema{
			"topic": topicSchema(), "seq": seqSchema(), "time": timeSchema(), "id": text(), "user": text(), "device": text(),
			"headers":     stringMap(),
			"header":      described(text(), "A header that is no object of strings."),
			"header_data": described(schema{"type": "string", "contentEncoding": "base64"}, "A header that is no text."),
			"expires":     timeSchema(), "filters": stringMap(),
			"receipt": described(choice("delivered", "read"), "What it tells of the message with this id, in an inbox."),
			"text":    described(text(), "The body, where it is UTF-8."),
			"data":    described(schema{"type": "string", "contentEncoding": "base64"}, "The body otherwise."),
		}, "topic", "seq", "time"),
		"Page": closed(schema{
			"messages": list(reference("Message")), "next": seqSchema(), "more": boolean(), "floor": seqSchema(),
		}, "messages", "next", "more", "floor"),
		"Outcome": closed(schema{"topic": topicSchema(), "seq": seqSchema(), "duplicate": boolean(), "error": reference("Reason")}),
		"Reason":  closed(schema{"kind": kinds(), "code": codes(), "message": text()}, "kind", "code", "message"),
		"Results": closed(schema{"results": list(reference("Outcome"))}, "results"),
		"Counted": closed(schema{"count": natural(), "first": seqSchema(), "last": seqSchema()}, "count", "first", "last"),
		"Topic": closed(schema{
			"topic": topicSchema(), "count": natural(), "first": seqSchema(), "last": seqSchema(), "floor": seqSchema(), "retention": reference("Retention"),
		}, "topic", "count", "first", "last", "floor"),
		"List":   closed(schema{"topics": list(reference("Topic")), "more": boolean()}, "topics", "more"),
		"Purged": closed(schema{"topic": topicSchema(), "count": natural(), "floor": seqSchema()}, "topic", "count", "floor"),
		"Rule": described(closed(schema{
			"age": durationSchema(), "bytes": schema{"type": "integer", "minimum": 1}, "messages": schema{"type": "integer", "minimum": 1},
		}), "At least one bound."),
		"Retention": closed(schema{
			"age": durationSchema(), "bytes": natural(), "messages": natural(), "source": choice(sourceSet, sourceConfigured, sourceNone),
		}, "source"),
		"Problem": closed(schema{
			"title": text(), "status": number(400, 599), "kind": kinds(), "code": codes(), "detail": text(), "retry": boolean(), "retry_ms": natural(),
			"results": list(reference("Outcome")),
		}, "title", "status", "kind", "code"),
	})
}

func topicParam(what string) param {
	return param{
		in: inPath, name: "topic", schema: text(), example: "hello",
		text: "Without its first slash, " + what + ". Slashes between segments are written as they are, other special characters percent-encoded once.",
	}
}

func locationHeader() param {
	return param{name: "Location", schema: text(), text: "Where the body is."}
}

func linkHeader() param {
	return param{name: "Link", schema: text(), text: "The next page, with `rel=\"next\"`, when there may be one."}
}
