package httpapi

import (
	"maps"
	"slices"

	"github.com/parley-im/parley/internal/account"
)

func nameSchema() schema { return schema{"type": "string", "minLength": 1, "maxLength": 128} }

func noteSchema() schema { return schema{"type": "string", "maxLength": account.MaxTextBytes} }

func grantsSchema() schema {
	s := list(described(text(), "Operations and a topic: publish, subscribe, history, presence, send, admin, or all but admin."))
	s["maxItems"] = account.MaxGrants
	s["examples"] = []any{[]any{"publish,history:/orders/*", "send:/$inbox/*"}}
	return s
}

func quotaSchema() schema {
	s := described(text(), "How many bytes the user may have stored: `default` as everybody, `none` without bound, or a size such as 100MiB.")
	s["examples"] = []any{"100MiB", "none", "default"}
	return s
}

// with is an object with the members of both.
func with(a, b schema) schema {
	c := maps.Clone(a)
	maps.Copy(c, b)
	return c
}

// accountSchemas are the shapes of users and credentials.
func accountSchemas() object {
	settable := func() schema {
		return schema{"display": noteSchema(), "email": noteSchema(), "suspended": boolean(), "grants": grantsSchema(), "quota": quotaSchema()}
	}
	key := func() schema {
		return schema{
			"key": text(), "user": nameSchema(), "note": noteSchema(), "grants": grantsSchema(),
			"created": timeSchema(), "expires": timeSchema(), "used": described(timeSchema(), "When last, to the hour."),
		}
	}
	keyNeeds := []string{"key", "user", "grants", "created"}
	certificate := func() schema {
		return schema{"serial": text(), "user": nameSchema(), "issued": timeSchema(), "expires": timeSchema(), "revoked": timeSchema()}
	}
	ends := schema{"ttl": durationSchema(), "expires": timeSchema()}
	return object{
		"User": closed(with(settable(), schema{
			"user": nameSchema(), "created": timeSchema(), "devices": natural(),
			"quota_bytes": described(natural(), "What the quota comes to; absent when the user may store without bound."),
			"used_bytes":  described(natural(), "What is stored of the user's messages; absent while nothing is counted because there never was a quota."),
			"not_before":  described(timeSchema(), "Credentials that were issued earlier are not accepted."),
		}), "user", "created", "suspended", "grants", "devices", "quota"),
		"Users":        closed(schema{"users": list(reference("User")), "more": boolean()}, "users", "more"),
		"UserCreation": closed(with(settable(), schema{"user": nameSchema()}), "user"),
		"UserChange":   described(closed(settable()), "At least one member."),
		"Device": closed(schema{
			"device": nameSchema(), "display": noteSchema(), "platform": noteSchema(), "created": timeSchema(),
			"seen": described(timeSchema(), "When it last connected or left, to the minute."),
		}, "device", "created", "seen"),
		"Devices":   closed(schema{"devices": list(reference("Device"))}, "devices"),
		"Forgotten": closed(schema{"user": nameSchema(), "device": nameSchema()}, "user", "device"),
		"Deleted": closed(schema{
			"user": nameSchema(), "messages": natural(), "dead_letters": natural(), "cursors": natural(), "devices": natural(),
			"keys": natural(), "certificates": natural(), "links": natural(),
		}, "user", "messages", "dead_letters", "cursors", "devices", "keys", "certificates", "links"),
		"TokenCreation": closed(schema{"device": nameSchema(), "ttl": durationSchema(), "grants": grantsSchema()}),
		"Token": closed(schema{
			"user": nameSchema(), "device": nameSchema(), "id": text(), "issued": timeSchema(), "expires": timeSchema(), "token": text(),
		}, "user", "id", "issued", "expires", "token"),
		"Key":         closed(key(), keyNeeds...),
		"Keys":        closed(schema{"keys": list(reference("Key")), "more": boolean()}, "keys", "more"),
		"KeyCreation": closed(with(ends, schema{"user": nameSchema(), "note": noteSchema(), "grants": grantsSchema()}), "user"),
		"NewKey":      closed(with(key(), schema{"secret": text()}), append(slices.Clone(keyNeeds), "secret")...),
		"Certificate": closed(certificate(), "serial"),
		"Certificates": closed(schema{
			"certificates": list(reference("Certificate")), "more": boolean(),
		}, "certificates", "more"),
		"CertificateCreation": closed(schema{"user": nameSchema(), "ttl": durationSchema()}, "user"),
		"IssuedCertificate":   closed(with(certificate(), schema{"pem": text(), "key": text()}), "serial", "pem", "key"),
		"Revoked":             closed(schema{"id": text(), "until": timeSchema()}, "id"),
	}
}
