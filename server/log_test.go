package server_test

import (
	"encoding/json"
	"log/slog"
	"maps"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/parley-im/parley/server"
)

func TestLogstash(t *testing.T) {
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	log := server.Log{Level: slog.LevelInfo, Format: server.LogLogstash, Environment: "prod"}
	logger := log.Logger(&out, true).With("module", "store", "host", "db1")
	logger.Debug("not wanted")
	before := time.Now()
	logger.Warn("disk \"low\"", "msg", "mine", "type", 7, "level", "x", "loglevel", "y", "time", "z", "free", 12, slog.Group("disk", "host", "h"))

	line := out.String()
	if strings.Count(line, "\n") != 1 {
		t.Fatalf("the log is %q, want one line", line)
	}
	var got map[string]any
	if err := json.Unmarshal([]byte(line), &got); err != nil {
		t.Fatal(err)
	}
	at, err := time.Parse(time.RFC3339, got["@timestamp"].(string))
	if err != nil || at.Before(before.Add(-time.Second)) || at.After(time.Now().Add(time.Second)) {
		t.Errorf("@timestamp is %v", got["@timestamp"])
	}
	delete(got, "@timestamp")
	want := map[string]any{
		"loglevel": "warning", "msg": "disk \"low\"", "service": "parley", "application_type": "service", "log_type": "application",
		"environment": "prod", "host": host, "module": "store", "fields.host": "db1", "fields.msg": "mine", "fields.type": 7.0,
		"fields.level": "x", "fields.loglevel": "y", "fields.time": "z", "free": 12.0,
	}
	group, _ := got["disk"].(map[string]any)
	delete(got, "disk")
	if !maps.Equal(got, want) || group["host"] != "h" {
		t.Errorf("the log has\n%v and %v, want\n%v", got, group, want)
	}
}
