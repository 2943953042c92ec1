package protocoltest_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/parley-im/parley/internal/protocol/protocoltest"
)

// mirror answers with what it was asked; a GET with a stream that stays open.
func mirror(t *testing.T) string {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			fmt.Fprint(w, "id: 7\ndata: a b\n\nid: 8\n")
			w.(http.Flusher).Flush()
			<-r.Context().Done()
			return
		}
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("X-Path", r.URL.Path)
		w.WriteHeader(http.StatusAccepted)
		fmt.Fprintf(w, "{%q,%q}\n", r.Header.Get("Content-Type"), body)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

func TestRunHTTPPlaysEveryTranscript(t *testing.T) {
	started := 0
	protocoltest.RunHTTP(t, filepath.Join("testdata", "http.md"), func(t *testing.T) string {
		started++
		return mirror(t)
	})
	if started != 2 {
		t.Errorf("%d servers were started, want one for each of 2 transcripts", started)
	}
}

// Each transcript is wrong in one way, and the error must say where and how.
func TestReplayHTTPFails(t *testing.T) {
	for _, tt := range []struct {
		name, script string
		line         string
		says         string
	}{
		{"another status", "> PUT /a\n< 200\n", ":3:", "want the status 200, got 202"},
		{"another header", "> PUT /a\n< 202\n< X-Path: /b\n", ":3:", `X-Path: "/b", got "/a"`},
		{"a missing header", "> PUT /a\n< 202\n< X-Other: b\n", ":3:", `X-Other: "b", got ""`},
		{"another body", "> PUT /a\n>\n> x\n< 202\n< {\"\",\"y\"}\n", ":5:", `got  {"","x"}`},
		{"more of a body", "> PUT /a\n< 202\n< {\"\",\n", ":3:", `got  {"",""}`},
		{"a name that changes", "> PUT /a\n>\n> x\n< 202\n< X-Path: /$N\n<\n< {\"\",\"$N\"}\n", ":5:", "N:a"},
		{"another line of a stream", "> GET /\n< 200\n<\n< id: 7\n< data: b\n< …\n", ":3:", "got  data: a b"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			scripts, err := protocoltest.ReadHTTPFile(write(t, "```transcript http\n"+tt.script+"```\n"))
			if err != nil {
				t.Fatal(err)
			}
			err = protocoltest.ReplayHTTP(t.Context(), scripts[0], mirror(t))
			if err == nil || !strings.Contains(err.Error(), tt.says) || !strings.Contains(err.Error(), "page.md"+tt.line) {
				t.Errorf("the replay says %v, want %q in line %s", err, tt.says, tt.line)
			}
		})
	}
}

func TestReadHTTPFileRefuses(t *testing.T) {
	for name, tt := range map[string]struct{ script, says string }{
		"no verb":    {"GET /\n", `page.md:2: "GET /" is neither`},
		"no request": {"< 200\n", "answers nothing"},
		"no answer":  {"> GET /\n< 200\n> GET /\n", "page.md:5: the last request has no answer"},
	} {
		_, err := protocoltest.ReadHTTPFile(write(t, "```transcript http\n"+tt.script+"```\n"))
		if err == nil || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v, want %q", name, err, tt.says)
		}
	}
}
