package broker_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/account"
	"github.com/parley-im/parley/internal/broker"
)

// TestSetRule: what an operator sets is applied at once, wins over the
// configuration, outlives the broker, and can be taken back.
func TestSetRule(t *testing.T) {
	store := openLog(t)
	cfg := broker.Config{KV: store, Retention: []broker.Rule{{Stream: "*", Messages: 8}}}
	b := start(t, store, cfg)
	publishN(t, b, "/a/b", 10)
	if err := b.SetRule(t.Context(), broker.Rule{Stream: "a", Messages: 3, Age: time.Hour}, 0); err != nil {
		t.Fatal(err)
	}
	if n, err := held(t, b, "a"); err != nil || n != 3 {
		t.Errorf("a keeps %d, want 3 at once (%v)", n, err)
	}

	next := start(t, store, cfg)
	if err := next.LoadRules(t.Context()); err != nil {
		t.Fatal(err)
	}
	rule, source := next.RetentionOf("a")
	if source != broker.RuleSet || rule != (broker.Rule{Stream: "a", Messages: 3, Age: time.Hour}) {
		t.Errorf("after a restart the rule is %+v from %v", rule, source)
	}
	next.SetRetention([]broker.Rule{{Stream: "*", Messages: 2}})
	if rule, source := next.RetentionOf("a"); source != broker.RuleSet {
		t.Errorf("a new configuration replaced what was set by %+v", rule)
	}
	if err := next.ResetRule(t.Context(), "a", next.RuleRev("a")); err != nil {
		t.Fatal(err)
	}
	if n, err := held(t, next, "a"); err != nil || n != 2 {
		t.Errorf("a keeps %d, want the 2 of the configuration at once (%v)", n, err)
	}
	if rule, source := next.RetentionOf("a"); source != broker.RuleConfigured || rule.Stream != "*" {
		t.Errorf("after a reset the rule is %+v from %v", rule, source)
	}
	if err := next.ResetRule(t.Context(), "a", broker.AnyRev); !errors.Is(err, parley.ErrNotFound) {
		t.Errorf("a second reset says %v, want not found", err)
	}
}

// TestSetRuleComparesRevisions: of two who replace the same rule one loses.
func TestSetRuleComparesRevisions(t *testing.T) {
	store := openLog(t)
	b := start(t, store, broker.Config{KV: store})
	set := func(n int, rev uint64) error {
		return b.SetRule(t.Context(), broker.Rule{Stream: "a", Messages: n}, rev)
	}
	if err := set(1, 0); err != nil {
		t.Fatal(err)
	}
	rev := b.RuleRev("a")
	if err := set(2, rev); err != nil {
		t.Fatal(err)
	}
	for _, stale := range []uint64{0, rev} {
		if err := set(3, stale); !errors.Is(err, parley.ErrConflict) {
			t.Errorf("replacing revision %d says %v, want a conflict", stale, err)
		}
	}
	if err := set(4, broker.AnyRev); err != nil {
		t.Errorf("replacing whatever is there: %v", err)
	}
}

// TestPublishCountsRefusals: what finds the queue full is counted, in a session
// or not.
func TestPublishCountsRefusals(t *testing.T) {
	b := broker.New(broker.Config{Log: openLog(t), QueueBytes: 1}) // never run
	waiting, cancel := context.WithCancel(t.Context())
	cancel()
	one := func() *broker.Publish {
		return &broker.Publish{Messages: []broker.Publication{{Message: parley.Message{Topic: "/a"}}}}
	}
	_ = b.Publish(waiting, account.Anyone(parley.Identity{}), one()) // waits in the queue, for nobody
	if err := b.Publish(t.Context(), account.Anyone(parley.Identity{}), one()); !errors.Is(err, broker.ErrOverloaded) {
		t.Fatalf("a second publish says %v, want overloaded", err)
	}
	if n := b.Stats().Refused; n != 1 {
		t.Errorf("%d refused messages are counted, want 1", n)
	}
}
