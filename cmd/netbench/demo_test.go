package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/servercore-go/servercore/bench"
	"github.com/servercore-go/servercore/internal/steady"
)

// briefly makes tours short.
func briefly(t testing.TB) {
	demoTime = 120 * time.Millisecond
	t.Cleanup(func() { demoTime = 0 })
}

// descriptors counts the open ones.
func descriptors(t testing.TB) int {
	t.Helper()
	names, err := os.ReadDir("/dev/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(names)
}

// wantGone wants no child of this process to be left, not even one that has ended and was not waited for.
func wantGone(t testing.TB) {
	t.Helper()
	var status syscall.WaitStatus
	if pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil); !errors.Is(err, syscall.ECHILD) {
		t.Errorf("a child is left: wait4 returned %d, %v", pid, err)
	}
}

func TestDemo(t *testing.T) {
	briefly(t)
	steady.Run(t, func(t testing.TB) {
		dir := t.TempDir()
		page, results := filepath.Join(dir, "page.html"), filepath.Join(dir, "results.json")
		demo := func() (int, string, string) {
			return netbench(t.Context(), "demo -html "+page+" -json "+results)
		}
		demo() // Go's poller opens descriptors of its own once
		before := descriptors(t)
		code, stdout, stderr := demo()
		if after := descriptors(t); after > before {
			t.Errorf("%d descriptors before, %d after", before, after)
		}
		wantGone(t)
		if code != exitOK || stderr != "" {
			t.Fatalf("code %d, stderr %q\n%s", code, stderr, stdout)
		}
		html, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(results)
		if err != nil {
			t.Fatal(err)
		}
		var list []bench.Result
		if err := json.Unmarshal(text, &list); err != nil || len(list) != len(stops) {
			t.Fatalf("%d results, %v", len(list), err)
		}
		for i, s := range stops {
			head := ": " + s.name + "\n"
			ran := strings.Contains(stdout, head+"OK ") || strings.Contains(stdout, head+"BEHIND ") // on a busy machine
			if !ran || !bytes.Contains(html, []byte("<h2>"+s.name+"</h2>")) {
				t.Errorf("%s is missing in\n%s", s.name, stdout)
			}
			if list[i].Totals.Messages == 0 || runtime.GOOS == "linux" && list[i].Server == nil {
				t.Errorf("%s: %d messages, server %+v", s.name, list[i].Totals.Messages, list[i].Server)
			}
			if to := list[i].Totals; (s.name == "tls") != (to.Handshakes > 0) || (s.name == "websocket") != (to.Upgrades > 0) {
				t.Errorf("%s: %d handshakes, %d upgrades", s.name, to.Handshakes, to.Upgrades)
			}
		}
		if !strings.Contains(stdout, "\nsummary ") || !strings.HasSuffix(stdout, "page with charts is "+page+"\n") {
			t.Error(stdout)
		}
	})
}

// The reference server and netbench agree on WebSocket over TLS, in each mode with its kind of message.
func TestWebSocketOverTLS(t *testing.T) {
	for _, tt := range []struct{ mode, line string }{
		{"echo", "echo -size 100000"}, {"echo", "echo -ws-text -depth 4"}, {"echo", "churn -tls-resume"}, {"broadcast", "fanout -ws-text"},
	} {
		c, err := startChild(t.Context(), "-mode", tt.mode, "-ws", "/ws", selfSigned)
		if err != nil {
			t.Fatal(err)
		}
		for flags, want := range map[string]int{" -ws /ws": exitOK, " -ws /elsewhere": exitFault} {
			if strings.HasPrefix(tt.line, "churn") && want != exitOK {
				continue // goes on in spite of refusals
			}
			code, stdout, stderr := netbench(t.Context(), tt.line+flags+" -tls -tls-pin "+c.pin+brief+c.addr)
			if code != want || want == exitOK && !strings.Contains(stdout, "WebSocket at /ws (") || want != exitOK && !strings.Contains(stderr, "404 Not Found") {
				t.Errorf("netbench %s%s: code %d\nstdout %s\nstderr %s", tt.line, flags, code, stdout, stderr)
			}
		}
		if err := c.stop(); err != nil {
			t.Error(err)
		}
	}
	wantGone(t)
}

// Without arguments netbench makes the tour, in the current folder.
func TestNoArguments(t *testing.T) {
	briefly(t)
	t.Chdir(t.TempDir())
	code, stdout, stderr := netbench(t.Context(), "")
	if _, err := os.Stat("netbench-demo.html"); err != nil || code != exitOK {
		t.Errorf("code %d, %v, stderr %q\n%s", code, err, stderr, stdout)
	}
	code, stdout, _ = netbench(t.Context(), "demo -h")
	if code != exitOK || !strings.Contains(stdout, "\n  -html file") || !strings.Contains(stdout, "\n  -json file") {
		t.Errorf("code %d\n%s", code, stdout)
	}
	code, stdout, _ = netbench(t.Context(), "demo -json -")
	if code != exitOK || !json.Valid([]byte(stdout)) {
		t.Errorf("code %d\n%.300s", code, stdout)
	}
}

// A tour that fails, at once or in its middle, leaves earlier files as they are.
func TestFailingDemoKeepsFiles(t *testing.T) {
	briefly(t)
	dir, paths := earlier(t, "page.html", "results.json")
	all := stops
	t.Cleanup(func() { stops = all })
	broken := stop{"broken", "-mode nonsense", all[0].plan}
	for _, stops = range [][]stop{{broken}, {all[0], broken}} {
		code, _, stderr := netbench(t.Context(), "demo -html "+paths[0]+" -json "+paths[1])
		if code != exitFault || len(stops) > 1 && !strings.Contains(stderr, "not written: "+paths[1]+", "+paths[0]) {
			t.Errorf("code %d, %q", code, stderr)
		}
		wantOnly(t, "demo", dir, paths)
		wantGone(t)
	}
}

// Ctrl-C during a tour: what there is is reported, and the server is gone.
func TestDemoInterrupted(t *testing.T) {
	dir := t.TempDir()
	page, results := filepath.Join(dir, "page.html"), filepath.Join(dir, "results.json")
	for _, sig := range []os.Signal{os.Interrupt, syscall.SIGTERM} {
		p := startProgram(t, "demo -html "+page+" -json "+results)
		if err := p.cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		p.cmd.Wait()
		if code := p.cmd.ProcessState.ExitCode(); code != exitOK {
			t.Errorf("%v: code %d, stdout %q, stderr %q", sig, code, &p.out, &p.errs)
		}
		p.wantServerGone(t)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	code, stdout, stderr := netbench(ctx, "demo -html "+page)
	if _, err := os.Stat(page); code != exitOK || !errors.Is(err, os.ErrNotExist) || !strings.Contains(stderr, "before anything was measured") {
		t.Errorf("code %d, %v, stdout %q, stderr %q", code, err, stdout, stderr)
	}
	briefly(t)
	demoTime = 2 * time.Second
	ctx, cancel = context.WithTimeout(t.Context(), demoTime)
	defer cancel()
	code, stdout, stderr = netbench(ctx, "demo -html "+page)
	text, err := os.ReadFile(page)
	if code != exitOK || err != nil || !bytes.Contains(text, []byte("echo: Interrupted")) || !strings.Contains(stdout, "OK so far, interrupted") {
		t.Errorf("code %d, %v, stdout %q, stderr %q", code, err, stdout, stderr)
	}
	wantGone(t)
}

// Even a netbench that is killed takes its server along.
func TestDemoKilled(t *testing.T) {
	p := startProgram(t, "demo -html "+filepath.Join(t.TempDir(), "page.html"))
	p.cmd.Process.Kill()
	p.cmd.Wait()
	p.wantServerGone(t)
}

func TestServerThatDoesNotStart(t *testing.T) {
	if _, err := startChild(t.Context(), "-mode", "nonsense"); err == nil || !strings.Contains(err.Error(), "use echo, game, broadcast or discard") {
		t.Errorf("error %v", err)
	}
	wantGone(t)
}

// A server that fails under the tour fails it, and is reported.
func TestServerThatDies(t *testing.T) {
	c, err := startChild(t.Context(), "-mode", "echo")
	if err != nil {
		t.Fatal(err)
	}
	c.cmd.Process.Kill()
	<-c.ended
	if err := c.stop(); err == nil || !strings.Contains(err.Error(), "the server failed: signal: killed") {
		t.Errorf("error %v", err)
	}
	wantGone(t)
}

// A program is netbench in a process of its own.
type program struct {
	cmd       *exec.Cmd
	out, errs bytes.Buffer
	server    net.Conn // to the server it has started
}

// callHome names the address that a server started by the demo of a test connects to, for as long as it lives.
const callHome = "NETBENCH_TEST_CALL_HOME"

// asChild is what this binary does when it is started as the server.
func asChild() int {
	if home := os.Getenv(callHome); home != "" {
		c, err := net.Dial("tcp", home)
		if err != nil {
			panic(err)
		}
		defer runtime.KeepAlive(c) // ends with the process
	}
	return run(context.Background(), os.Args[1:], os.Stdout, os.Stderr)
}

// startProgram starts netbench and waits until its server runs.
func startProgram(t testing.TB, line string) *program {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	home, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer home.Close()
	p := &program{cmd: exec.Command(self, "-test.run=^TestAsProgram$")}
	p.cmd.Env = append(os.Environ(), asProgram+"="+line, callHome+"="+home.Addr().String())
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.errs
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.cmd.Process.Kill() })
	home.SetDeadline(time.Now().Add(20 * time.Second))
	if p.server, err = home.Accept(); err != nil {
		t.Fatalf("no server was started: %v", err)
	}
	return p
}

// wantServerGone waits until the server has ended.
func (p *program) wantServerGone(t *testing.T) {
	t.Helper()
	defer p.server.Close()
	p.server.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := p.server.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the server is still there: %v", err)
	}
}
