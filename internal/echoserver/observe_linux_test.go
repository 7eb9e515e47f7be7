package echoserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// pagesOf returns a client for the pages that a server says it serves. Each request has a connection of its own.
func pagesOf(t *testing.T, s *server) (c *http.Client, url string) {
	t.Helper()
	s.out.wait(t, "observe on ", 1)
	s.out.wait(t, "\n", 2)
	_, said, _ := strings.Cut(s.out.String(), "observe on ")
	said, _, _ = strings.Cut(said, "\n")
	transport := &http.Transport{DisableKeepAlives: true}
	if path, ok := strings.CutPrefix(said, "unix:"); ok {
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		}
		said = "http://echoserver/"
	}
	return &http.Client{Transport: transport, Timeout: patience}, strings.TrimSuffix(said, "/")
}

// state returns what /state answers.
func state(c *http.Client, url string) (string, error) {
	resp, err := c.Get(url + "/state")
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = errors.New(resp.Status)
	}
	return string(text), err
}

// At a restart the pages refuse nobody, a page that is open ends, and what answers then is the new process. At the end the socket is gone.
func TestObserveAcrossARestart(t *testing.T) {
	for _, addr := range observers(t) {
		t.Run(addr, func(t *testing.T) {
			reap(t)
			self, _ := os.Executable()
			cmd := exec.Command(self, "-addr", "127.0.0.1:0", "-drain", "1m", "-observe", addr, "-observe-admin", "-log-level", "debug")
			cmd.Env = []string{observeToken + "=secret"}
			p := launch(t, cmd)
			client, url := pagesOf(t, p.server)
			of := func(pid int) string {
				return fmt.Sprintf(`process %d running admin=true token="secret" level=DEBUG`, pid)
			}
			if got, err := state(client, url); got != of(p.cmd.Process.Pid) {
				t.Errorf("the page says %q, %v", got, err)
			}
			open, err := client.Get(url + "/events")
			if err != nil {
				t.Fatal(err)
			}
			defer open.Body.Close()

			quit, asked := make(chan struct{}), new(sync.WaitGroup)
			stop := sync.OnceFunc(func() { close(quit); asked.Wait() })
			defer stop()
			asked.Go(func() {
				for {
					select {
					case <-quit:
						return
					default:
					}
					if got, err := state(client, url); err != nil || !strings.HasPrefix(got, "process ") {
						t.Errorf("during the restart the page says %q, %v", got, err)
						return
					}
				}
			})
			p.signal(syscall.SIGUSR2)
			pid := p.successor(1)
			p.wantExit(exitOK)
			stop()
			_, _ = io.ReadAll(open.Body) // it ends, or the client's deadline makes it an error of the next line
			if got, err := state(client, url); got != of(pid) {
				t.Errorf("after the restart the page says %q, %v; want process %d", got, err, pid)
			}
			kill(t, pid)
			wantExitOf(t, pid, exitOK)
			if _, err := state(client, url); err == nil {
				t.Error("the pages outlive the server")
			}
			if path, ok := strings.CutPrefix(addr, "unix:"); ok {
				if _, err := os.Lstat(path); !os.IsNotExist(err) {
					t.Errorf("the socket is left: %v", err)
				}
			}
		})
	}
}

// The pages show how the server drains, and end with it.
func TestObserveShowsTheDraining(t *testing.T) {
	p := spawn(t, "-addr", "127.0.0.1:0", "-observe", "127.0.0.1:0")
	client, url := pagesOf(t, p.server)
	c := p.dial()
	if err := echoed(c); err != nil {
		t.Fatal(err)
	}
	p.signal(syscall.SIGTERM)
	p.log.wait(t, "msg=\"draining; ", 1)
	waitFor(t, func() bool {
		got, err := state(client, url)
		if err != nil {
			t.Fatalf("the pages end before the sessions do: %v", err)
		}
		return strings.Contains(got, " draining ")
	})
	_ = c.Close()
	p.wantExit(exitOK)
	if _, err := state(client, url); err == nil {
		t.Error("the pages outlive the server")
	}
}

// With another -observe the new process opens a socket of its own.
func TestObserveAtAnotherAddress(t *testing.T) {
	reap(t)
	settings := writeFile(t, "addr = '127.0.0.1:0'\ndrain = '1m'\nobserve = '127.0.0.1:0'\n")
	p := spawn(t, "-config", settings)
	client, url := pagesOf(t, p.server)
	if err := os.WriteFile(settings, []byte("addr = '127.0.0.1:0'\ndrain = '1m'\nobserve = 'localhost:0'\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p.signal(syscall.SIGUSR2)
	pid := p.successor(1)
	p.wantExit(exitOK)
	if _, err := state(client, url); err == nil {
		t.Error("the old address still answers")
	}
	p.out.wait(t, "observe on ", 2)
	kill(t, pid)
	wantExitOf(t, pid, exitOK)
}
