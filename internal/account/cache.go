package account

import (
	"container/list"
	"sync"
)

// Bounds of the users that are kept in memory.
const (
	cacheUsers = 16_384
	cacheBytes = 32 << 20 // about, by the size of their records
)

// cache keeps the users that were used last. Whoever puts one in holds that
// user's lock, so that what is there is never older than the record.
type cache struct {
	mostUsers, mostBytes int

	mu    sync.Mutex // guards what follows
	users map[string]*list.Element
	order *list.List // of *user, the newest used first
	bytes int
}

func newCache(users, bytes int) *cache {
	return &cache{mostUsers: users, mostBytes: bytes, users: map[string]*list.Element{}, order: list.New()}
}

func (c *cache) get(name string) *user {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.users[name]
	if e == nil {
		return nil
	}
	c.order.MoveToFront(e)
	return e.Value.(*user)
}

func (c *cache) put(u *user) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.remove(u.Name)
	c.users[u.Name] = c.order.PushFront(u)
	c.bytes += u.size
	for len(c.users) > c.mostUsers || c.bytes > c.mostBytes && len(c.users) > 1 {
		c.remove(c.order.Back().Value.(*user).Name)
	}
}

func (c *cache) drop(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.remove(name)
}

func (c *cache) remove(name string) {
	if e := c.users[name]; e != nil {
		c.bytes -= e.Value.(*user).size
		c.order.Remove(e)
		delete(c.users, name)
	}
}
