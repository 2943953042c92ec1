package proxy_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/parley-im/parley/internal/wire"
	"github.com/parley-im/parley/server/servertest"
	"github.com/parley-im/parley/test/require"
)

// deployed is how nginx is set up where the original Texto server is deployed: it
// passes upgrades on as HTTP/1.0.
const deployed = `
upstream nodes { server UPSTREAM; }
server {
	listen ADDRESS;
	location / {
		proxy_pass http://nodes;
		proxy_set_header Host $host;
		proxy_set_header X-Real-IP $remote_addr;
		proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
		proxy_set_header X-Forwarded-Host $server_name;
	}
	location /v1/texto {
		proxy_pass http://nodes;
		proxy_set_header Upgrade $http_upgrade;
		proxy_set_header Connection "upgrade";
		proxy_set_header Host $host;
		proxy_set_header X-Real-IP $remote_addr;
		proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
		proxy_set_header X-Forwarded-Host $server_name;
	}
}
`

// TestTextoThroughNginx: clients of Texto reach a Parley server in the place of the
// original one, behind the nginx that stands before that.
func TestTextoThroughNginx(t *testing.T) {
	s := servertest.Start(t, behind)
	binary := require.Program(t, "nginx", "nginx", "/usr/sbin/nginx")
	at, dir := freeAddress(t), t.TempDir()
	whole := "daemon off;\npid " + dir + "/pid;\nerror_log stderr warn;\nworker_processes 1;\nevents {}\nhttp {\naccess_log off;\n"
	if os.Getuid() == 0 {
		whole = "user root;\n" + whole
	}
	for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		whole += kind + "_temp_path " + dir + "/" + kind + ";\n"
	}
	whole += strings.NewReplacer("UPSTREAM", address(s), "ADDRESS", at).Replace(deployed) + "}\n"
	path := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(path, []byte(whole), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, exec.CommandContext(context.WithoutCancel(t.Context()), binary, "-p", dir, "-c", path, "-e", "stderr"), at)
	conn, err := wire.Dial(t.Context(), "ws://"+at+"/v1/texto", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(1000, "") }()
	next := func() string {
		t.Helper()
		frames, err := conn.Read()
		if err != nil {
			t.Fatal(err)
		}
		return string(frames[0].Payload)
	}
	greeting := next()
	if !strings.Contains(greeting, `"kind":"connection"`) {
		t.Fatalf("the greeting is %s", greeting)
	}
	id := greeting[14:50]
	if err := conn.Write(conn.AppendFrame(nil, true, []byte(`{"client_id":"`+id+`","kind":"send","data":{"receiver_id":"`+id+`","text":"hi"}}`))); err != nil {
		t.Fatal(err)
	}
	if got := next(); !strings.Contains(got, `"text":"hi"`) && !strings.Contains(got, `"kind":"ack"`) {
		t.Errorf("it got %s", got)
	}
	if got := get(t, "http://"+at+"/texto/"); got.status != 200 {
		t.Errorf("the page: %+v", got)
	}
}
