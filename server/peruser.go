package server

import (
	"fmt"
	"sync"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/account"
)

// perUser bounds the connections of each user who has authenticated. In open mode
// anybody could use up somebody else's.
type perUser struct {
	mu   sync.Mutex // guards what follows
	most int
	open map[string]int
}

// errTooMany is a connection too many of one user.
var errTooMany = fmt.Errorf("too many connections of this user, close one or try again later: %w", parley.ErrUnavailable)

// limit replaces the bound for those who come from now on.
func (p *perUser) limit(most int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.most = most
}

func (p *perUser) enter(user string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open[user] >= p.most {
		return errTooMany
	}
	if p.open == nil {
		p.open = make(map[string]int)
	}
	p.open[user]++
	return nil
}

func (p *perUser) leave(user string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open[user]--; p.open[user] <= 0 {
		delete(p.open, user)
	}
}

// visit is the place that one connection takes, once its user is known. Its
// methods are called by one goroutine.
type visit struct {
	users *perUser
	user  string
}

// knows reports whether nothing is to be noted of who: it is nobody in
// particular, or somebody was noted already.
func (v *visit) knows(who *account.Principal) bool {
	return who.Open || who.User == "" || v.user != ""
}

// as notes who visits; the user of a visit does not change any more.
func (v *visit) as(who *account.Principal) error {
	if v.knows(who) {
		return nil
	}
	if err := v.users.enter(who.User); err != nil {
		return err
	}
	v.user = who.User
	return nil
}

func (v *visit) over() {
	if v.user != "" {
		v.users.leave(v.user)
	}
}
