package auth

import (
	"context"
	"crypto"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// run fetches the keys at once, before they are too old, and when somebody asks,
// until ctx ends.
func (s *set) run(ctx context.Context) {
	defer s.stop()
	for {
		timer := time.NewTimer(s.attempt(ctx))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-s.asked:
			timer.Stop()
		case <-timer.C:
		}
	}
}

// stop lets those go who wait although nobody is left to fetch.
func (s *set) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped = true
	s.bell.ring()
}

// attempt fetches the keys if that is due, and returns when it will be.
func (s *set) attempt(ctx context.Context) time.Duration {
	if wait := s.begin(); wait > 0 {
		return wait
	}
	keys, age, err := s.fetch(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	s.fetching = false
	defer s.bell.ring()
	switch {
	case err == nil:
		if s.failures > 0 {
			s.logger.InfoContext(ctx, "an issuer's keys can be fetched again", "keys", s.cfg.Name)
		}
		s.keys, s.failures = keys, 0
		s.fresh = now.Add(age)
		s.usable = s.fresh.Add(MaxStale)
	case ctx.Err() == nil:
		s.failures++
		if s.failures == 1 || s.failures%60 == 0 { // about each hour
			s.logger.WarnContext(ctx, "cannot fetch an issuer's keys", "keys", s.cfg.Name, "error", err, "usable_until", s.usable)
		}
	}
	return s.waitLocked(now)
}

// begin notes that an attempt begins, or returns how long there should be none.
func (s *set) begin() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	if !s.dueLocked(now) {
		return s.waitLocked(now)
	}
	s.tried, s.fetching = now, true
	return 0
}

// waitLocked is how long to wait before an attempt that nobody asks for.
func (s *set) waitLocked(now time.Time) time.Duration {
	due := s.tried.Add(s.pauseLocked()).Sub(now)
	return max(due, s.fresh.Sub(now), time.Second)
}

// fetch gets the keys, and for how long they are fresh.
func (s *set) fetch(ctx context.Context) (map[setKey]crypto.PublicKey, time.Duration, error) {
	at, err := s.locate(ctx)
	if err != nil {
		return nil, 0, err
	}
	got, err := s.out.fetch(ctx, at, "application/jwk-set+json, application/json", maxSetBytes)
	if err != nil {
		return nil, 0, err
	}
	keys, err := parseSet(got.body)
	if err != nil {
		return nil, 0, err
	}
	for name := range keys {
		if !slices.Contains(s.cfg.Algorithms, name.algorithm) {
			delete(keys, name)
		}
	}
	return keys, freshness(got.header), nil
}

// freshness is how long an answer says that it is fresh, within bounds.
func freshness(h http.Header) time.Duration {
	for directive := range strings.SplitSeq(strings.Join(h.Values("Cache-Control"), ","), ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(directive), "=")
		switch strings.ToLower(name) {
		case "no-store", "no-cache":
			return minFresh
		case "max-age":
			seconds, err := strconv.ParseUint(strings.Trim(value, `"`), 10, 31)
			if err != nil {
				return usualFresh
			}
			return min(max(time.Duration(seconds)*time.Second, minFresh), maxFresh)
		}
	}
	return usualFresh
}
