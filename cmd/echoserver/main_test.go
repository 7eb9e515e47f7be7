package main

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/servercore-go/servercore/internal/echoserver"
)

// asServer is the variable that makes the test binary run the program.
const asServer = "ECHOSERVER_TEST_AS_SERVER"

// testPages are what the program serves in a test.
var testPages echoserver.Pages = pages

func TestMain(m *testing.M) {
	if os.Getenv(asServer) != "" {
		os.Exit(echoserver.MainWithPages(context.Background(), testPages, os.Args[1:], os.Environ(), os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// The program counts a client's message on /metrics, disconnects the client by /admin with the token only, and ends in order.
func TestProgramIsObserved(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	self, err := os.Executable()
	must(t, err)
	cmd := exec.CommandContext(ctx, self, "-addr", "127.0.0.1:0", "-observe", "127.0.0.1:0", "-observe-admin")
	cmd.Env = append(os.Environ(), asServer+"=1", "ECHOSERVER_OBSERVE_TOKEN=secret")
	stdout, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	lines := bufio.NewScanner(stdout)
	next := func(before string) string {
		t.Helper()
		lines.Scan()
		rest, ok := strings.CutPrefix(lines.Text(), before)
		if !ok {
			t.Fatalf("the program says %q, want %q and an address", lines.Text(), before)
		}
		return rest
	}
	addr := next("listening on ")
	url := next("observe on ")

	c, err := net.Dial("tcp", addr)
	must(t, err)
	defer c.Close()
	must(t, c.SetDeadline(time.Now().Add(30*time.Second)))
	_, err = io.WriteString(c, "hello")
	must(t, err)
	_, err = io.ReadFull(c, make([]byte, 5))
	must(t, err)

	ask := func(method, path, token string) (int, string) {
		t.Helper()
		r, err := http.NewRequestWithContext(ctx, method, url+path, nil)
		must(t, err)
		if token != "" {
			r.Header.Set("Authorization", "Bearer "+token)
		}
		resp, err := http.DefaultClient.Do(r)
		must(t, err)
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		must(t, err)
		return resp.StatusCode, string(body)
	}
	if code, body := ask("GET", "metrics", ""); code != http.StatusOK || !strings.Contains(body, "servercore_accepted_sessions_total 1\n") {
		t.Errorf("/metrics: %d, without the session:\n%.2000s", code, body)
	}
	if code, _ := ask("POST", "admin/level?level=debug", ""); code != http.StatusUnauthorized {
		t.Errorf("/admin without the token: %d, want 401", code)
	}
	if code, body := ask("POST", "admin/level?level=debug", "secret"); code != http.StatusOK || body != "DEBUG\n" {
		t.Errorf("/admin/level: %d %q", code, body)
	}
	if code, body := ask("POST", "admin/disconnect?id=1", "secret"); code != http.StatusOK {
		t.Errorf("/admin/disconnect: %d %q", code, body)
	}
	if n, err := c.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the client reads %d bytes, %v; want EOF", n, err)
	}
	must(t, cmd.Process.Signal(syscall.SIGTERM))
	must(t, cmd.Wait())
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
