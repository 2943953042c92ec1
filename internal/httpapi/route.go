package httpapi

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/parley-im/parley"
)

// audience is who a route is for.
type audience int

const (
	clients   audience = iota
	operators          // only those whom the guard lets through
	everybody          // clients, and operators on a listener of their own
)

// route is one thing that the API does.
type route struct {
	method string
	// path is a pattern of the mux without the method.
	path     string
	audience audience
	id       string // names the operation in the document
	summary  string
	text     string // says the rest; Markdown
	params   []param
	body     *body
	answer   answer
	// faults are the statuses of problems beyond those that any route has.
	faults []int
	// public says that it is for those too who have not said who they are.
	public bool
	// publishes says that each request is counted as a publish.
	publishes bool
	serve     func(http.ResponseWriter, *request) error
	// handler serves the route in place of serve, and reads the query itself.
	handler http.Handler
}

func (rt *route) pattern() string { return rt.method + " " + rt.path }

// param is a parameter in the query, the path or a header.
type param struct {
	in     place
	name   string
	schema schema
	text   string
	// example is a value to try.
	example any
	// family says that names with the same beginning, up to the dot, are
	// parameters too.
	family bool
}

type place string

const (
	inQuery  place = "query"
	inPath   place = "path"
	inHeader place = "header"
)

// body is what a request carries: media types with their schemas.
type body struct {
	text    string
	content []content
}

// content is one media type.
type content struct {
	mediaType string
	schema    schema
	example   any
}

// answer is the answer to a request that succeeded.
type answer struct {
	status  int
	text    string
	headers []param
	content []content
}

// query reads the query of a request: each parameter of the route at most once,
// and nothing else.
func (rt *route) query(raw string) (map[string]string, error) {
	if raw == "" {
		return nil, nil //nolint:nilnil // a nil map reads as an empty one
	}
	values, err := url.ParseQuery(raw)
	if err != nil {
		return nil, fmt.Errorf("the query is not well formed: %w", parley.ErrInvalid)
	}
	query := make(map[string]string, len(values))
	for name, given := range values {
		switch {
		case !rt.takes(name):
			return nil, fmt.Errorf("there is no parameter %.40q here; there are %s: %w", name, rt.names(), parley.ErrInvalid)
		case len(given) > 1:
			return nil, fmt.Errorf("the parameter %s is given more than once: %w", name, parley.ErrInvalid)
		}
		query[name] = given[0]
	}
	return query, nil
}

// takes reports whether the route has a parameter of that name in the query.
func (rt *route) takes(name string) bool {
	for i := range rt.params {
		p := &rt.params[i]
		if p.in != inQuery {
			continue
		}
		family, _, _ := strings.Cut(p.name, ".")
		if p.name == name || p.family && strings.HasPrefix(name, family+".") {
			return true
		}
	}
	return false
}

func (rt *route) names() string {
	var names []string
	for _, p := range rt.params {
		if p.in == inQuery {
			names = append(names, p.name)
		}
	}
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}
