package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/backend"
)

// RuleSource says where the rule for a stream comes from.
type RuleSource int

// The sources of a rule.
const (
	NoRule         RuleSource = iota // nothing is ever dropped
	RuleConfigured                   // Config.Retention or SetRetention
	RuleSet                          // an operator, by SetRule
)

// rules are what streams keep. A rule that an operator has set for a stream wins
// over the configured ones.
type rules struct {
	setting sync.Mutex // held while a record is written, before mu

	mu         sync.Mutex // guards what follows
	configured []Rule
	set        map[parley.Stream]setRule
}

// setRule is an operator's rule, and the revision of its record.
type setRule struct {
	Rule

	rev uint64
}

func newRules(configured []Rule) *rules {
	return &rules{configured: slices.Clone(configured), set: map[parley.Stream]setRule{}}
}

// SetRetention replaces the configured rules; they are applied at the next turn.
// What operators have set stays.
func (b *Broker) SetRetention(configured []Rule) {
	b.rules.mu.Lock()
	defer b.rules.mu.Unlock()
	b.rules.configured = slices.Clone(configured)
}

// RetentionOf is the rule in force for a stream, with the name under which it
// was given, and where it comes from.
func (b *Broker) RetentionOf(s parley.Stream) (Rule, RuleSource) {
	b.rules.mu.Lock()
	defer b.rules.mu.Unlock()
	if r, ok := b.rules.set[s]; ok {
		return r.Rule, RuleSet
	}
	for _, r := range b.rules.configured {
		if r.matches(s) {
			return r, RuleConfigured
		}
	}
	return Rule{}, NoRule
}

// RuleRev is the revision of the rule that an operator has set for s, 0 when
// there is none.
func (b *Broker) RuleRev(s parley.Stream) uint64 {
	b.rules.mu.Lock()
	defer b.rules.mu.Unlock()
	return b.rules.set[s].rev
}

// ruleKeys is the prefix of the records of rules; the stream's name follows.
const ruleKeys = "retention/"

// ruleRecord is how a rule is kept.
type ruleRecord struct {
	Age      time.Duration `json:"age_ns,omitempty"`
	Bytes    int64         `json:"bytes,omitempty"`
	Messages int           `json:"messages,omitempty"`
}

// LoadRules reads what operators have set; call it before Run.
func (b *Broker) LoadRules(ctx context.Context) error {
	if b.cfg.KV == nil {
		return nil
	}
	for record, err := range b.cfg.KV.Scan(ctx, ruleKeys) {
		if err != nil {
			return err
		}
		var kept ruleRecord
		if err := json.Unmarshal(record.Value, &kept); err != nil {
			return fmt.Errorf("record %q: %w", record.Key, err)
		}
		name := strings.TrimPrefix(record.Key, ruleKeys)
		b.remember(Rule{Stream: name, Age: kept.Age, Bytes: kept.Bytes, Messages: kept.Messages}, record.Rev)
	}
	return nil
}

func (b *Broker) remember(r Rule, rev uint64) {
	b.rules.mu.Lock()
	defer b.rules.mu.Unlock()
	b.rules.set[parley.Stream(r.Stream)] = setRule{Rule: r, rev: rev}
}

// AnyRev makes SetRule and ResetRule replace whatever is there.
const AnyRev = ^uint64(0)

// SetRule keeps r as the rule of the stream that it names, durably, and applies
// it at once and from now on. A rule without a bound keeps everything. Rev is
// the revision that it replaces, 0 for none; otherwise the error wraps
// parley.ErrConflict.
func (b *Broker) SetRule(ctx context.Context, r Rule, rev uint64) error {
	s := parley.Stream(r.Stream)
	if err := b.changeRule(s, rev, func(rev uint64) error {
		value, err := json.Marshal(ruleRecord{Age: r.Age, Bytes: r.Bytes, Messages: r.Messages})
		if err != nil {
			return err
		}
		next := rev + 1
		if b.cfg.KV != nil {
			if next, err = b.cfg.KV.Put(ctx, backend.Record{Key: ruleKeys + r.Stream, Value: value, Rev: rev}); err != nil {
				return err
			}
		}
		b.remember(r, next)
		return nil
	}); err != nil {
		return err
	}
	return b.retainStream(ctx, s)
}

// ResetRule forgets what SetRule has set, so that the configured rules count
// again; rev is as for SetRule. The error wraps parley.ErrNotFound when nothing
// was set.
func (b *Broker) ResetRule(ctx context.Context, s parley.Stream, rev uint64) error {
	if err := b.changeRule(s, rev, func(rev uint64) error {
		if rev == 0 {
			return fmt.Errorf("no retention was set for %s: %w", s.Topic(), parley.ErrNotFound)
		}
		if b.cfg.KV != nil {
			if err := b.cfg.KV.Delete(ctx, ruleKeys+string(s), rev); err != nil && !errors.Is(err, parley.ErrNotFound) {
				return err
			}
		}
		b.rules.mu.Lock()
		defer b.rules.mu.Unlock()
		delete(b.rules.set, s)
		return nil
	}); err != nil {
		return err
	}
	return b.retainStream(ctx, s)
}

// changeRule checks rev and changes the rule of s, one at a time.
func (b *Broker) changeRule(s parley.Stream, rev uint64, change func(rev uint64) error) error {
	b.rules.setting.Lock()
	defer b.rules.setting.Unlock()
	current := b.RuleRev(s)
	if rev != AnyRev && rev != current {
		return fmt.Errorf("the retention of %s has changed meanwhile: %w", s.Topic(), parley.ErrConflict)
	}
	return change(current)
}
