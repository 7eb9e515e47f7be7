//go:build wireshark

package chat

import (
	"crypto/tls"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/servercore-go/servercore/engine"
	"github.com/servercore-go/servercore/record"
)

// A recording of the chat is opened by tshark: nothing is malformed, the lines of the users and the messages of a browser are there. It
// needs tshark: go test -tags wireshark ./examples/internal/chat
func TestRecordedChat(t *testing.T) {
	path := filepath.Join(t.TempDir(), "chat.pcapng")
	w, err := record.Create(path, record.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s := start(t, "127.0.0.1:0", true, engine.Record(w))
	anna := dial(t, s.Lines.Addr().String())
	var guest string
	if _, err := fmt.Fscanf(anna.lines, "* you are %s in lobby, with 0 others\n", &guest); err != nil {
		t.Fatal(err)
	}
	ben := browse(t, s, "?name=ben", &tls.Config{InsecureSkipVerify: true})
	ben.want("* you are ben in lobby, with 1 others")
	anna.want("* ben is here")
	anna.say("hello, ben")
	ben.want(guest + ": hello, ben")
	ben.say("hello yourself")
	anna.want("ben: hello yourself")
	ben.want("ben: hello yourself")
	anna.say("/quit")
	ben.want("* " + guest + " has left")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	_, port, _ := strings.Cut(s.Web.Addr().String(), ":")
	tshark := func(args ...string) string {
		args = append([]string{"-r", path, "-n", "-o", "tcp.check_checksum:TRUE", "-d", "tcp.port==" + port + ",http"}, args...)
		out, err := exec.Command("tshark", args...).Output()
		if err != nil {
			t.Fatalf("tshark %v: %v", args, err)
		}
		return string(out)
	}
	if bad := tshark("-Y", "_ws.malformed || tcp.checksum.status == 0 || tcp.analysis.flags"); bad != "" {
		t.Errorf("tshark finds fault with:\n%s", bad)
	}
	if lines := tshark("-q", "-z", "follow,tcp,ascii,0"); !strings.Contains(lines, "hello, ben") || !strings.Contains(lines, "ben: hello yourself") {
		t.Errorf("the lines of a user:\n%s", lines)
	}
	frames := tshark("-Y", "websocket", "-T", "fields", "-e", "websocket.payload.text", "-e", "text")
	if !strings.Contains(frames, "hello, ben") || !strings.Contains(frames, "hello yourself") {
		t.Errorf("the messages of a browser:\n%s", frames)
	}
}
