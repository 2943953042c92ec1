package server

import (
	"errors"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/account"
	"github.com/parley-im/parley/internal/limit"
)

// RateLimit bounds how often one kind of thing may be done by one of those who do
// it.
type RateLimit struct {
	// What is done: "publish", "send", "connect" or "auth"; with "-bytes" behind
	// the first two, the bytes of the bodies count in place of the messages. Of
	// "auth" only failures count.
	What string
	// Of says for whom it is counted: each "user", "device", "address" or "topic".
	// The topic of a send is the recipient's inbox.
	Of string
	// Count in each Per are allowed on average, and Burst at once.
	Count int64
	Per   time.Duration
	Burst int64
}

const rateAllowed = "WHAT/OF=COUNT/UNIT or WHAT/OF=COUNT/UNIT:BURST, where WHAT is publish, publish-bytes, send, send-bytes, connect or auth, " +
	"OF is user, device, address or topic, and UNIT is s, m, h or d, such as publish/user=100/s:500 or publish-bytes/user=1GiB/d"

// What is counted, and for whom.
const (
	doPublish      = "publish"
	doPublishBytes = "publish-bytes"
	doSend         = "send"
	doSendBytes    = "send-bytes"
	doConnect      = "connect"
	doAuth         = "auth"
	ofUser         = "user"
	ofDevice       = "device"
	ofAddress      = "address"
	ofTopic        = "topic"
)

func rateUnits() map[string]time.Duration {
	return map[string]time.Duration{"s": time.Second, "m": time.Minute, "h": time.Hour, "d": 24 * time.Hour}
}

// ParseRateLimit reads a rate such as publish/user=100/s:500. Without a burst
// that is as much as the rate allows in a unit.
func ParseRateLimit(s string) (RateLimit, error) {
	name, value, found := strings.Cut(s, "=")
	what, of, scoped := strings.Cut(name, "/")
	if !found || !scoped {
		return RateLimit{}, errors.New("is not WHAT/OF=COUNT/UNIT")
	}
	r := RateLimit{What: what, Of: of}
	if err := r.checkNames(); err != nil {
		return RateLimit{}, err
	}
	value, burst, bursty := strings.Cut(value, ":")
	count, unit, found := strings.Cut(value, "/")
	var known bool
	if r.Per, known = rateUnits()[unit]; !found || !known {
		return RateLimit{}, errors.New("has no such unit")
	}
	var err error
	if r.Count, err = r.parseCount(count); err != nil {
		return RateLimit{}, err
	}
	if r.Burst = r.Count; bursty {
		if r.Burst, err = r.parseCount(burst); err != nil {
			return RateLimit{}, err
		}
	}
	return r, nil
}

func (r RateLimit) checkNames() error {
	switch {
	case !slices.Contains([]string{doPublish, doPublishBytes, doSend, doSendBytes, doConnect, doAuth}, r.What):
		return errors.New("limits nothing that is counted")
	case !slices.Contains([]string{ofUser, ofDevice, ofAddress, ofTopic}, r.Of):
		return errors.New("is counted for nobody")
	case r.What == doAuth && r.Of != ofAddress:
		return errors.New("must be auth/address: nothing else is known of who does not authenticate")
	case r.What == doConnect && r.Of == ofTopic:
		return errors.New("cannot be: a connection has no topic")
	}
	return nil
}

func (r RateLimit) parseCount(s string) (int64, error) {
	const most = 1 << 50
	var n int64
	var err error
	if strings.HasSuffix(r.What, "-bytes") {
		n, err = ParseSize(s)
	} else {
		n, err = strconv.ParseInt(s, 10, 64)
	}
	if err != nil || n < 1 || n > most {
		return 0, errors.New("has no count from 1 to 2^50")
	}
	return n, nil
}

// String is as ParseRateLimit reads it.
func (r RateLimit) String() string {
	unit := ""
	for name, d := range rateUnits() {
		if d == r.Per {
			unit = name
		}
	}
	s := r.What + "/" + r.Of + "=" + r.formatCount(r.Count) + "/" + unit
	if r.Burst != r.Count {
		s += ":" + r.formatCount(r.Burst)
	}
	return s
}

func (r RateLimit) formatCount(n int64) string {
	if strings.HasSuffix(r.What, "-bytes") {
		return FormatSize(n)
	}
	return strconv.FormatInt(n, 10)
}

// rateLimit is a kind of setting.
func rateLimit() kind[RateLimit] {
	return kind[RateLimit]{value: "RATE", allowed: rateAllowed, parse: ParseRateLimit, format: RateLimit.String}
}

// rates are the rates in force and how much of them is used. The zero value
// limits nothing.
type rates struct {
	table atomic.Pointer[limit.Table[rateKey]]
	rules atomic.Pointer[map[string][]rateRule]
}

// rateRule is one rule, as it is counted.
type rateRule struct {
	of   string
	what string // for people
	rate limit.Rate
}

// rateKey is one of those who are counted.
type rateKey struct {
	what, of            string
	user, device, topic string
	address             netip.Addr
}

// set replaces the rates. What is used of them stays used.
func (r *rates) set(limits []RateLimit) {
	r.table.CompareAndSwap(nil, limit.NewTable[rateKey](0))
	rules := make(map[string][]rateRule)
	for _, l := range limits {
		noun := map[string]string{
			doPublish: "messages published", doPublishBytes: "bytes published", doSend: "messages sent", doSendBytes: "bytes sent",
			doConnect: "connections", doAuth: "failures to authenticate",
		}[l.What]
		where := map[string]string{ofUser: "by this user", ofDevice: "by this device", ofAddress: "from this address", ofTopic: "to this topic"}[l.Of]
		rules[l.What] = append(rules[l.What], rateRule{l.Of, noun + " " + where, limit.Rate{Count: l.Count, Per: l.Per, Burst: l.Burst}})
	}
	r.rules.Store(&rules)
}

// of are the rules for what; mostly there are none.
func (r *rates) of(what string) []rateRule {
	rules := r.rules.Load()
	if rules == nil || len(*rules) == 0 {
		return nil
	}
	return (*rules)[what]
}

// spend uses n of each rule for what, or nothing and says when there will be
// enough.
func (r *rates) spend(what string, by *rateKey, n int64) error {
	rules := r.of(what)
	for i, rule := range rules {
		key, counts := by.scope(what, rule.of)
		if !counts {
			continue
		}
		if wait := r.table.Load().Spend(key, rule.rate, n); wait > 0 {
			r.giveBack(what, rules[:i], by, n)
			return &limit.ExceededError{What: rule.what, After: wait}
		}
	}
	return nil
}

func (r *rates) giveBack(what string, rules []rateRule, by *rateKey, n int64) {
	for _, paid := range rules {
		if key, counts := by.scope(what, paid.of); counts {
			r.table.Load().Return(key, paid.rate, n)
		}
	}
}

// scope is k as far as it is counted for one scope; what is not known is not
// counted.
func (k *rateKey) scope(what, of string) (key rateKey, counts bool) {
	switch of {
	case ofUser:
		key.user = k.user
		counts = k.user != ""
	case ofDevice:
		key.user, key.device = k.user, k.device
		counts = k.user != "" && k.device != ""
	case ofAddress:
		key.address = k.address
		counts = k.address.IsValid()
	case ofTopic:
		key.topic = k.topic
		counts = k.topic != ""
	}
	key.what, key.of = what, of
	return key, counts
}

// keyOf is who is counted. What somebody only claims to be is not: anybody could
// use up what is somebody else's.
func keyOf(who *account.Principal, from netip.Addr) rateKey {
	k := rateKey{address: from}
	if !who.Open {
		k.user, k.device = who.User, who.Device
	}
	return k
}

// mayTry tells whether an address may show a credential.
func (r *rates) mayTry(from netip.Addr) error {
	by := rateKey{address: from}
	for _, rule := range r.of(doAuth) {
		key, counts := by.scope(doAuth, rule.of)
		if !counts {
			continue
		}
		if wait := r.table.Load().Spent(key, rule.rate, 1); wait > 0 {
			return &limit.ExceededError{What: rule.what, After: wait}
		}
	}
	return nil
}

// failed counts a credential that was refused.
func (r *rates) failed(from netip.Addr) {
	_ = r.spend(doAuth, &rateKey{address: from}, 1) // mayTry says so to the next
}

// arrives counts a connection from an address.
func (r *rates) arrives(from netip.Addr) error {
	return r.spend(doConnect, &rateKey{address: from}, 1)
}

// connects counts a connection of a user, once that is known.
func (r *rates) connects(who *account.Principal) error {
	by := keyOf(who, netip.Addr{})
	return r.spend(doConnect, &by, 1)
}

// publishes counts a message with a body of so many bytes: a publish, or with
// account.Send a send, to the inbox t.
func (r *rates) publishes(who *account.Principal, from netip.Addr, o account.Operation, t parley.Topic, bytes int) error {
	what, whatBytes := doPublish, doPublishBytes
	if o == account.Send {
		what, whatBytes = doSend, doSendBytes
	}
	rules, bytesRules := r.of(what), r.of(whatBytes)
	if rules == nil && bytesRules == nil {
		return nil
	}
	by := keyOf(who, from)
	by.topic = string(t)
	err := r.spend(what, &by, 1)
	if err == nil {
		if err = r.spend(whatBytes, &by, int64(bytes)); err != nil {
			r.giveBack(what, rules, &by, 1)
		}
	}
	return err
}
