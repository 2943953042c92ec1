package httpapi

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/account"
	"github.com/parley-im/parley/internal/broker"
	"github.com/parley-im/parley/internal/protocol/jsonrpc"
	"github.com/parley-im/parley/internal/units"
)

// Retention is the rule in force for a stream. A bound that is absent keeps
// everything.
type Retention struct {
	// Age is a duration such as 30d.
	Age      string `json:"age,omitempty"`
	Bytes    int64  `json:"bytes,omitempty"`
	Messages int    `json:"messages,omitempty"`
	// Source is where the rule comes from: "set" by an operator,
	// "configuration", or "none" when there is no rule.
	Source string `json:"source"`
}

// retentionBody is a rule as an operator writes it.
type retentionBody struct {
	Age      *string `json:"age"`
	Bytes    *int64  `json:"bytes"`
	Messages *int    `json:"messages"`
}

// The sources of a rule.
const (
	sourceSet        = "set"
	sourceConfigured = "configuration"
	sourceNone       = "none"
)

// retentionOf is the rule in force for s.
func (a *API) retentionOf(s parley.Stream) Retention {
	rule, source := a.cfg.Broker.RetentionOf(s)
	v := Retention{Bytes: rule.Bytes, Messages: rule.Messages, Source: sourceNone}
	if rule.Age > 0 {
		v.Age = units.FormatDuration(rule.Age)
	}
	switch source {
	case broker.RuleSet:
		v.Source = sourceSet
	case broker.RuleConfigured:
		v.Source = sourceConfigured
	case broker.NoRule:
	}
	return v
}

// showRetention answers with the rule in force.
func (a *API) showRetention(w http.ResponseWriter, r *request) error {
	s, err := streamOf(r)
	if err == nil {
		err = r.principal().Allow(account.History, s.Topic())
	}
	if err != nil {
		return err
	}
	return a.replyRetention(w, s)
}

func (a *API) replyRetention(w http.ResponseWriter, s parley.Stream) error {
	if rev := a.cfg.Broker.RuleRev(s); rev != 0 {
		w.Header().Set("ETag", revTag(rev))
	}
	return reply(w, http.StatusOK, a.retentionOf(s))
}

// setRetention sets the rule of one stream.
func (a *API) setRetention(w http.ResponseWriter, r *request) error {
	const most = 4 << 10
	s, err := streamOf(r)
	if err != nil {
		return err
	}
	if _, err := bodyType(r.Header.Get("Content-Type"), objectType); err != nil {
		return err
	}
	p, err := a.readBody(w, r.Request, most)
	if err != nil {
		return err
	}
	var v retentionBody
	if err := jsonrpc.DecodeBody(p, &v); err != nil {
		return err
	}
	rule, err := v.rule(s)
	if err != nil {
		return err
	}
	rev, err := a.expectedRev(r.Request, s)
	if err != nil {
		return err
	}
	if err := a.cfg.Broker.SetRule(r.Context(), rule, rev); err != nil {
		return changed(err, rev)
	}
	a.cfg.Logger.InfoContext(r.Context(), "retention set", "stream", string(s), "age", rule.Age.String(), "bytes", rule.Bytes, "messages", rule.Messages)
	return a.replyRetention(w, s)
}

// resetRetention lets the configuration decide again.
func (a *API) resetRetention(w http.ResponseWriter, r *request) error {
	s, err := streamOf(r)
	if err != nil {
		return err
	}
	rev, err := a.expectedRev(r.Request, s)
	if err != nil {
		return err
	}
	if err := a.cfg.Broker.ResetRule(r.Context(), s, rev); err != nil {
		return changed(err, rev)
	}
	a.cfg.Logger.InfoContext(r.Context(), "retention reset", "stream", string(s))
	return a.replyRetention(w, s)
}

// changed is the error of a write: where the client named a revision, a conflict
// is a precondition that failed.
func changed(err error, rev uint64) error {
	if p := translate(err); rev != broker.AnyRev && p.Kind == "conflict" {
		return failure(http.StatusPreconditionFailed, p.Detail)
	}
	return err
}

// rule checks the bounds.
func (v *retentionBody) rule(s parley.Stream) (broker.Rule, error) {
	rule := broker.Rule{Stream: string(s)}
	if v.Age == nil && v.Bytes == nil && v.Messages == nil {
		return rule, invalid("give age, bytes or messages; DELETE lets the configuration decide")
	}
	if v.Age != nil {
		d, err := units.ParseDuration(*v.Age)
		if err != nil || d < time.Second {
			return rule, invalid("age must be a duration of a second or more, such as 90s, 12h or 30d")
		}
		rule.Age = d
	}
	if v.Bytes != nil {
		if *v.Bytes < 1 {
			return rule, invalid("bytes must be at least 1")
		}
		rule.Bytes = *v.Bytes
	}
	if v.Messages != nil {
		if *v.Messages < 1 {
			return rule, invalid("messages must be at least 1")
		}
		rule.Messages = *v.Messages
	}
	return rule, nil
}

// streamOf is the stream that the path names.
func streamOf(r *request) (parley.Stream, error) {
	topic, err := parley.ParseTopic("/" + r.PathValue("stream"))
	switch {
	case err != nil:
		return "", err
	case topic.Reserved():
		return "", account.ErrReserved
	case topic.Parent() != "":
		return "", invalid("a stream is a topic's first segment: %s", topic.Stream())
	case topic == "/*":
		return "", invalid("rules for every stream are configured with --retention")
	}
	return topic.Stream(), nil
}

// expectedRev is the revision that a write replaces: that of If-Match, none with
// If-None-Match: *, and otherwise whatever is there.
func (a *API) expectedRev(r *http.Request, s parley.Stream) (uint64, error) {
	match, noMatch := r.Header.Values("If-Match"), r.Header.Values("If-None-Match")
	switch {
	case len(match) == 0 && len(noMatch) == 0:
		return broker.AnyRev, nil
	case len(match)+len(noMatch) > 1:
		return 0, invalid("only one If-Match or If-None-Match")
	case len(noMatch) == 1:
		if noMatch[0] != "*" {
			return 0, invalid("If-None-Match must be *")
		}
		return 0, nil
	case match[0] == "*":
		rev := a.cfg.Broker.RuleRev(s)
		if rev == 0 {
			return 0, failure(http.StatusPreconditionFailed, "no retention was set for "+string(s.Topic()))
		}
		return rev, nil
	}
	tag, err := strconv.Unquote(strings.TrimSpace(match[0]))
	rev, err2 := strconv.ParseUint(tag, 10, 64)
	if err != nil || err2 != nil || rev == 0 || rev == broker.AnyRev {
		return 0, failure(http.StatusPreconditionFailed, "If-Match is no ETag of this")
	}
	return rev, nil
}

func revTag(rev uint64) string { return `"` + strconv.FormatUint(rev, 10) + `"` }
