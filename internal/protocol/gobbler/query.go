package gobbler

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/parley-im/parley"
)

// parseQuery reads the parameters of a request; the error wraps
// parley.ErrInvalid.
func parseQuery(raw string) (url.Values, error) {
	query, err := url.ParseQuery(raw)
	if err != nil {
		return nil, fmt.Errorf("the query cannot be read: %w", parley.ErrInvalid)
	}
	for name, values := range query {
		if !utf8.ValidString(name) || !utf8.ValidString(values[0]) {
			return nil, fmt.Errorf("the query is not valid UTF-8: %w", parley.ErrInvalid)
		}
	}
	return query, nil
}

const (
	filterPrefix   = "filter"
	maxFilterBytes = 255 // of each name and each value
)

// filtersOf are the parameters that begin with "filter", by the rest of their
// names in snake case. Nil for none.
func filtersOf(query url.Values) (map[string]string, error) {
	var filters map[string]string
	for _, name := range slices.Sorted(maps.Keys(query)) {
		rest, ok := strings.CutPrefix(name, filterPrefix)
		if !ok {
			continue
		}
		key, value := snake(rest), query.Get(name)
		if len(key) > maxFilterBytes || len(value) > maxFilterBytes {
			return nil, fmt.Errorf("a filter's name and its value have at most %d bytes: %w", maxFilterBytes, parley.ErrInvalid)
		}
		if _, ok := filters[key]; ok {
			return nil, fmt.Errorf("two parameters are the filter %q: %w", key, parley.ErrInvalid)
		}
		if filters == nil {
			filters = map[string]string{}
		}
		filters[key] = value
	}
	return filters, nil
}

// snake is s in snake case: UserID is user_id. Each capital becomes small, with
// an underscore before it where a word begins: neither at the start nor after an
// underscore, and where a small letter stands before or after it.
func snake(s string) string {
	runes := []rune(s)
	small := func(i int) bool { return i < len(runes) && unicode.IsLower(runes[i]) }
	var b strings.Builder
	for i, r := range runes {
		if unicode.IsUpper(r) {
			if i > 0 && runes[i-1] != '_' && (small(i-1) || small(i+1)) {
				b.WriteByte('_')
			}
			r = unicode.ToLower(r)
		}
		b.WriteRune(r)
	}
	return b.String()
}

// maxTTL bounds, in seconds, what an expiry can be away: a hundred years.
const maxTTL = 100 * 365 * 24 * 60 * 60

// expiryOf is when a message expires: at expires, by RFC 3339, or ttl seconds
// after now. Zero for neither.
func expiryOf(query url.Values, now time.Time) (time.Time, error) {
	at, ttl := query.Get("expires"), query.Get("ttl")
	switch {
	case at != "" && ttl != "":
		return time.Time{}, fmt.Errorf("expires and ttl exclude each other: %w", parley.ErrInvalid)
	case ttl != "":
		n, err := strconv.Atoi(ttl)
		if err != nil || n < 1 || n > maxTTL {
			return time.Time{}, fmt.Errorf("ttl must be a number of seconds, 1 to %d: %w", maxTTL, parley.ErrInvalid)
		}
		return now.Add(time.Duration(n) * time.Second).UTC().Truncate(time.Microsecond), nil
	case at == "":
		return time.Time{}, nil
	}
	expires, err := time.Parse(time.RFC3339, at)
	switch {
	case err != nil:
		return time.Time{}, fmt.Errorf("expires must be a time such as 2026-11-21T07:24:53Z: %w", parley.ErrInvalid)
	case !expires.After(now) || expires.Sub(now) > maxTTL*time.Second:
		return time.Time{}, fmt.Errorf("expires is in the past, or further away than %d seconds: %w", maxTTL, parley.ErrInvalid)
	}
	return expires.UTC().Truncate(time.Microsecond), nil
}

// headerOf is a message's header line: an object of the HTTP headers with one of
// two prefixes, without these, in order of name. Of two with one name the newer
// prefix counts. Without any it is an empty object, as it always was.
func headerOf(h http.Header) string {
	members := map[string]string{}
	for _, prefix := range []string{"X-Guble-", "X-Gobbler-"} {
		for name, values := range h {
			if rest, ok := strings.CutPrefix(name, prefix); ok && rest != "" {
				members[rest] = values[0]
			}
		}
	}
	line := []byte{'{'}
	for i, name := range slices.Sorted(maps.Keys(members)) {
		if i > 0 {
			line = append(line, ',')
		}
		line = appendQuoted(line, name)
		line = append(line, ':')
		line = appendQuoted(line, members[name])
	}
	return string(append(line, '}'))
}
