package httpapi

import (
	"net/http"
	"strconv"

	"github.com/parley-im/parley/internal/account"
)

// accountRoutes are those of users and of what proves who they are.
func (a *API) accountRoutes() []route {
	if a.cfg.Accounts.Directory == nil {
		return nil
	}
	return append(a.userRoutes(), a.credentialRoutes()...)
}

func userParam() param {
	return param{in: inPath, name: "user", schema: text(), text: "The user's name, in any case.", example: "ann"}
}

// listParams are those of a list in pages.
func listParams(of string, more ...param) []param {
	return append(more,
		param{in: inQuery, name: "after", schema: text(), text: "Only those behind this one: the last of the page before."},
		param{
			in: inQuery, name: "limit", schema: number(1, accountsMost),
			text: "At most so many " + of + "; " + strconv.Itoa(accountsDefault) + " unless given.",
		})
}

// only is an answer of one JSON object.
func only(status int, what, schema string, headers ...param) answer {
	return answer{status, what, headers, []content{{jsonType, reference(schema), nil}}}
}

func tagHeader() param {
	return param{name: "ETag", schema: text(), text: "Of what PATCH changes."}
}

// bodyFaults are the problems that a body may have.
func bodyFaults(more ...int) []int {
	return append(more, http.StatusForbidden, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType)
}

func (a *API) userRoutes() []route {
	denied, missing := []int{http.StatusForbidden}, []int{http.StatusForbidden, http.StatusNotFound}
	user := userParam()
	return []route{
		{
			method: http.MethodGet, path: "/v1/users", audience: operators, id: "listUsers", summary: "List the users",
			text:   "In order of name.",
			params: listParams("users"), answer: only(http.StatusOK, "A page.", "Users"), faults: denied, serve: a.listUsers,
		},
		{
			method: http.MethodPost, path: "/v1/users", audience: operators, id: "createUser", summary: "Make a user",
			text: "A user who signs in with a credential that the server accepts gets a record by itself; this makes it before. A name is kept in lower case.",
			body: &body{"The user.", []content{{objectType, reference("UserCreation"), object{"user": "ann", "grants": []any{"all:/orders/*"}}}}},
			answer: only(http.StatusCreated, "The user.", "User", tagHeader(),
				param{name: "Location", schema: text(), text: "Where the user is."}),
			faults: bodyFaults(http.StatusConflict), serve: a.createUser,
		},
		{
			method: http.MethodGet, path: "/v1/users/{user}", audience: operators, id: "showUser", summary: "Look at a user",
			params: []param{user}, answer: only(http.StatusOK, "The user.", "User", tagHeader()), faults: missing, serve: a.showUser,
		},
		{
			method: http.MethodPatch, path: "/v1/users/{user}", audience: operators, id: "changeUser", summary: "Change, suspend or resume a user",
			text: "What the body does not have stays as it is; `grants` replaces all; `quota` counts at once. Suspending, or taking grants away, ends the user's sessions within " +
				"seconds. What is sent to a suspended user is kept for them.",
			params: []param{user, {in: inHeader, name: "If-Match", schema: text(), text: "Only if this is still the ETag of the user."}},
			body:   &body{"What to change.", []content{{objectType, reference("UserChange"), object{"suspended": true}}}},
			answer: only(http.StatusOK, "The user as changed.", "User", tagHeader()),
			faults: bodyFaults(http.StatusNotFound, http.StatusConflict, http.StatusPreconditionFailed), serve: a.changeUser,
		},
		{
			method: http.MethodDelete, path: "/v1/users/{user}", audience: operators, id: "deleteUser", summary: "Delete a user with everything of theirs",
			text: "There is no way back. Sessions end and nothing that proves the user is accepted any more, before the inbox, devices, keys, certificates " +
				"and links to other sign-ins are removed. When it is broken off, the same request does the rest.",
			params: []param{user}, answer: only(http.StatusOK, "What was removed.", "Deleted"), faults: missing, serve: a.deleteUser,
		},
		{
			method: http.MethodGet, path: "/v1/users/{user}/devices", audience: operators, id: "listDevices", summary: "List a user's devices",
			params: []param{user}, answer: only(http.StatusOK, "All of them; there are at most "+strconv.Itoa(account.MaxDevices)+".", "Devices"),
			faults: missing, serve: a.listDevices,
		},
		{
			method: http.MethodDelete, path: "/v1/users/{user}/devices/{device}", audience: operators, id: "forgetDevice", summary: "Forget a device",
			text:   "Its cursors go, its sessions end. A credential that it has may still be good: revoke that too.",
			params: []param{user, {in: inPath, name: "device", schema: text(), text: "The device's name.", example: "phone"}},
			answer: only(http.StatusOK, "It is forgotten.", "Forgotten"), faults: missing, serve: a.forgetDevice,
		},
		{
			method: http.MethodGet, path: "/v1/users/{user}/export", audience: operators, id: "exportUser", summary: "Everything that is stored about a user",
			text:   "An object on each line; its `kind` says what it is. Secrets are not part of it, because they are not stored.",
			params: []param{user},
			answer: answer{http.StatusOK, "Lines of JSON.", nil, []content{{linesType, text(), nil}}},
			faults: missing, handler: http.HandlerFunc(a.exportUser),
		},
	}
}

func (a *API) credentialRoutes() []route {
	missing := []int{http.StatusForbidden, http.StatusNotFound}
	user := userParam()
	of := param{in: inQuery, name: "user", schema: text(), text: "Only those of this user.", example: "ann"}
	routes := []route{
		{
			method: http.MethodDelete, path: "/v1/users/{user}/tokens", audience: operators, id: "revokeTokens", summary: "Revoke all credentials of a user",
			text: "Tokens, keys and certificates that were issued until now are not accepted any more, whoever issued them, and the sessions that they " +
				"opened end within seconds.",
			params: []param{user}, answer: only(http.StatusOK, "The user.", "User", tagHeader()), faults: []int{http.StatusForbidden}, serve: a.revokeTokens,
		},
		{
			method: http.MethodDelete, path: "/v1/tokens/{id}", audience: operators, id: "revokeToken", summary: "Revoke one token",
			text: "Whoever issued it. Whether there is such a token, the server does not know.",
			params: []param{
				{in: inPath, name: "id", schema: text(), text: "The token's `jti`.", example: "5f1c"},
				{in: inQuery, name: "until", schema: timeSchema(), text: "When the token ends by itself, so that it can be forgotten then; for ever unless given."},
			},
			answer: only(http.StatusOK, "It is revoked.", "Revoked"), faults: []int{http.StatusForbidden}, serve: a.revokeToken,
		},
		{
			method: http.MethodGet, path: "/v1/keys", audience: operators, id: "listKeys", summary: "List the API keys",
			params: listParams("keys", of), answer: only(http.StatusOK, "A page, without secrets.", "Keys"), faults: []int{http.StatusForbidden}, serve: a.listKeys,
		},
		{
			method: http.MethodPost, path: "/v1/keys", audience: operators, id: "createKey", summary: "Make an API key",
			text: "The `secret` is shown this once; the server keeps a hash. With `grants` the key may do those and nothing else; without, what its user may. " +
				"The user is made if there is none.",
			body: &body{"The key.", []content{{
				objectType, reference("KeyCreation"), object{"user": "billing", "note": "the shop", "grants": []any{"publish:/orders"}, "ttl": "90d"},
			}}},
			answer: only(http.StatusCreated, "The key with its secret.", "NewKey"), faults: bodyFaults(http.StatusConflict), serve: a.createKey,
		},
		{
			method: http.MethodDelete, path: "/v1/keys/{id}", audience: operators, id: "revokeKey", summary: "Revoke an API key",
			params: []param{{in: inPath, name: "id", schema: text(), text: "The key's id, as the list has it.", example: "0123456789abcdef"}},
			answer: only(http.StatusOK, "It is revoked, and its sessions end.", "Revoked"), faults: missing, serve: a.revokeKey,
		},
		{
			method: http.MethodGet, path: "/v1/certificates", audience: operators, id: "listCertificates", summary: "List the client certificates",
			text:   "Those that this server has issued, and those that were revoked here, until they expire.",
			params: listParams("certificates", of), answer: only(http.StatusOK, "A page.", "Certificates"), faults: []int{http.StatusForbidden}, serve: a.listCertificates,
		},
		{
			method: http.MethodDelete, path: "/v1/certificates/{serial}", audience: operators, id: "revokeCertificate", summary: "Revoke a client certificate",
			text:   "It need not have been issued by this server itself.",
			params: []param{{in: inPath, name: "serial", schema: text(), text: "The certificate's serial, in hexadecimal.", example: "1f"}},
			answer: only(http.StatusOK, "It is revoked, and its sessions end.", "Revoked"), faults: []int{http.StatusForbidden}, serve: a.revokeCertificate,
		},
	}
	if a.cfg.Accounts.IssueToken != nil {
		routes = append(routes, route{
			method: http.MethodPost, path: "/v1/users/{user}/tokens", audience: operators, id: "issueToken", summary: "Issue a token",
			text:   "A JWT that this server accepts. It is shown this once. With `device` it is good for that device only. There need be no record of the user yet.",
			params: []param{user},
			body:   &body{"What it is to be good for.", []content{{objectType, reference("TokenCreation"), object{"ttl": "30d", "device": "phone"}}}},
			answer: only(http.StatusCreated, "The token.", "Token"), faults: bodyFaults(), serve: a.issueToken,
		})
	}
	if a.cfg.Accounts.IssueCertificate != nil {
		routes = append(routes, route{
			method: http.MethodPost, path: "/v1/certificates", audience: operators, id: "issueCertificate", summary: "Issue a client certificate",
			text:   "By the server's own authority. The private key is shown this once. The serial is the device of who connects with it.",
			body:   &body{"Whose it is to be.", []content{{objectType, reference("CertificateCreation"), object{"user": "ann", "ttl": "365d"}}}},
			answer: only(http.StatusCreated, "The certificate and its key.", "IssuedCertificate"), faults: bodyFaults(http.StatusConflict), serve: a.issueCertificate,
		})
	}
	return routes
}
