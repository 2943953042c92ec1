package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/parley-im/parley"
)

// call makes one request of the HTTP API and decodes the answer.
func call(ctx context.Context, method, server, path string, answer any) error {
	return demand{method: method, server: server, path: path}.send(ctx, answer)
}

// demand is one request of the HTTP API; body is sent as JSON unless it is nil.
type demand struct {
	method, server, path string
	body                 any
	match                string // is sent as If-Match unless it is empty
}

// send makes the request and decodes the answer.
func (d demand) send(ctx context.Context, answer any) error {
	_, err := d.exchange(ctx, answer)
	return err
}

// exchange is send, and returns the answer's ETag.
func (d demand) exchange(ctx context.Context, answer any) (tag string, err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	req, err := adminRequest(ctx, d.method, d.server, d.path)
	if err != nil {
		return "", err
	}
	if d.match != "" {
		req.Header.Set("If-Match", d.match)
	}
	if d.body != nil {
		text, err := json.Marshal(d.body)
		if err != nil {
			return "", err
		}
		req.Body, req.ContentLength = io.NopCloser(bytes.NewReader(text)), int64(len(text))
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", fmt.Errorf("%w: %w", parley.ErrUnavailable, err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusCreated {
		return "", problem(resp)
	}
	if err := json.NewDecoder(resp.Body).Decode(answer); err != nil {
		return "", fmt.Errorf("the server's answer makes no sense: %w", err)
	}
	return resp.Header.Get("ETag"), nil
}

// adminRequest is a request without a body. It shows the credential of the
// environment, if there is one, as client commands do.
func adminRequest(ctx context.Context, method, server, path string) (*http.Request, error) {
	u, err := url.Parse(server)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return nil, fmt.Errorf("the server's address must begin with http:// or https://: %w", parley.ErrInvalid)
	}
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(server, "/")+path, http.NoBody)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", parley.ErrInvalid, err)
	}
	if token := cmp.Or(os.Getenv("PARLEY_TOKEN"), os.Getenv("PARLEY_API_KEY")); token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	return req, nil
}

// problem is the error that an answer tells. What is an operator's business is
// not found where clients are served when it has a listener of its own.
func problem(resp *http.Response) error {
	var p struct {
		Kind   string `json:"kind"`
		Detail string `json:"detail"`
	}
	const longest = 64 << 10
	_ = json.NewDecoder(io.LimitReader(resp.Body, longest)).Decode(&p) // not every answer is a problem
	if resp.StatusCode == http.StatusMethodNotAllowed || resp.StatusCode == http.StatusNotFound && p.Kind == "" {
		u := resp.Request.URL
		return fmt.Errorf("%s://%s does not do that: where a server has --admin-listen, --server must name that address: %w",
			u.Scheme, u.Host, parley.ErrInvalid)
	}
	for kind, err := range map[string]error{
		"invalid":         parley.ErrInvalid,
		"unauthenticated": parley.ErrUnauthenticated,
		"forbidden":       parley.ErrForbidden,
		"not_found":       parley.ErrNotFound,
		"conflict":        parley.ErrConflict,
		"unavailable":     parley.ErrUnavailable,
	} {
		if p.Kind == kind {
			return &answered{text: p.Detail, kind: err}
		}
	}
	return fmt.Errorf("the server answered %s", resp.Status)
}

// answered is an error in the server's words.
type answered struct {
	text string
	kind error
}

func (e *answered) Error() string { return e.text }
func (e *answered) Unwrap() error { return e.kind }
