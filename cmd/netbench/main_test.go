package main

import (
	"bytes"
	"context"
	"flag"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/servercore-go/servercore/bench"
	"github.com/servercore-go/servercore/internal/steady"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == childCommand { // the demo starts this binary as its server
		os.Exit(asChild())
	}
	goleak.VerifyTestMain(m, goleak.IgnoreCurrent(),
		// The runtime's own, from the first signal.Notify on.
		goleak.IgnoreTopFunction("os/signal.signal_recv"), goleak.IgnoreTopFunction("os/signal.loop"))
}

// echo is a server that sends back what it gets; flip changes one bit of each read.
func echo(t testing.TB, flip bool) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	group.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			group.Go(func() {
				defer c.Close()
				b := make([]byte, 64<<10)
				for {
					n, err := c.Read(b)
					if err != nil {
						return
					}
					if flip {
						b[n-1] ^= 1
					}
					c.Write(b[:n])
				}
			})
		}
	})
	t.Cleanup(func() { l.Close(); group.Wait() })
	return l.Addr().String()
}

// netbench runs the program with the words of line.
func netbench(ctx context.Context, line string) (code int, stdout, stderr string) {
	var out, err bytes.Buffer
	code = run(ctx, strings.Fields(line), &out, &err)
	return code, out.String(), err.String()
}

const brief = " -conns 2 -warmup 0 -duration 100ms -addr "

func TestExitCodes(t *testing.T) {
	good, bad := echo(t, false), echo(t, true)
	for _, tt := range []struct {
		line           string
		code           int
		stdout, stderr string // prefix, part
	}{
		{"echo" + brief + good, exitOK, "OK       no error", ""},
		{"rate -rate 100" + strings.Replace(brief, "100ms", "1s", 1) + good, exitOK, "OK ", ""}, // long enough for a busy machine to keep up
		{"churn" + brief + good, exitOK, "OK ", ""},
		{"idle -active 1" + brief + good, exitOK, "OK ", ""},
		{"ramp -connect-rate 100" + brief + good, exitOK, "OK ", ""},
		{"echo" + brief + bad, exitErrors, "ERRORS   ", ""},
		{"echo -quiet" + brief + good, exitOK, "", ""},
		{"echo -quiet" + brief + bad, exitErrors, "", ""},
		{"echo" + brief + refusing(t), exitFault, "", "connection refused"},
		{"fanout -timeout 100ms" + brief + good, exitFault, "", "not a broadcast server"},
		{"echo -json /nonexistent/x" + brief + good, exitFault, "", "/nonexistent/x"},
		{"echo -html /nonexistent/x" + brief + good, exitFault, "", "/nonexistent/x"},
		{"demo -html /nonexistent/x", exitFault, "", "/nonexistent/x"},
		{"-h", exitOK, "netbench loads", ""},
		{"load", exitUsage, "", `unknown command "load"`},
	} {
		steady.Run(t, func(t testing.TB) {
			code, stdout, stderr := netbench(t.Context(), tt.line)
			if code != tt.code || !strings.HasPrefix(stdout, tt.stdout) || tt.stdout == "" && stdout != "" ||
				!strings.Contains(stderr, tt.stderr) || tt.stderr == "" && stderr != "" {
				t.Errorf("netbench %s: code %d, want %d\nstdout %q\nstderr %q", tt.line, code, tt.code, stdout, stderr)
			}
		})
	}
}

func TestBadFlags(t *testing.T) {
	for _, tt := range []struct{ line, advice string }{
		{"echo", "-addr is missing"},
		{"echo -addr 7777", "-addr \"7777\": use host:port"},
		{"echo -addr h:1 -conns 0", "-conns 0: use a positive value"},
		{"echo -addr h:1 -size -4", "-size -4: use a positive value"},
		{"echo -addr h:1 -duration 0", "-duration 0s: use a positive value"},
		{"echo -addr h:1 -warmup -1s", "-warmup -1s: use 0 or a positive time"},
		{"echo -addr h:1 -rate 5", "-rate"}, // a closed loop has none
		{"echo -addr h:1 -color", "-color"},
		{"echo -addr h:1 more", "everything is set by flags"},
		{"echo -addr h:1 -ws ws", "-ws ws: use the path of a URL, such as /ws"},
		{"echo -addr h:1 -ws-text", "-ws-text: it needs -ws"},
		{"echo -addr h:1 -tls-name x", "-tls-name x: it needs -tls"},
		{"rate -addr h:1 -arrival never", "-arrival \"never\": use uniform or poisson"},
		{"fanout -addr h:1 -subscribe h:1,x", `-subscribe "x": use host:port`},
		{"fanout -addr h:1 -rate 0", "-rate 0: use a positive value"},
		{"fanout -addr h:1 -rate 5 -stream", "-stream: it sends as fast as the subscribers get it; leave it out with -rate"},
		{"fanout -addr h:1 -size 8", "-size 8: fanout needs"},
		{"idle -addr h:1 -conns 2 -active 3", "-active 3: there are only 2 connections"},
		{"ramp -addr h:1 -conns 5000 -connect-rate 10", "-duration 10s: 5000 connections"},
		{"compare one.json", "1 file(s) given"},
		{"compare one.json -html x.html", "1 file(s) given"},
		{"compare one.json -color two.json", "-color"},
		{"demo more", "everything is set by flags"},
		{"demo -html=", "-html is empty"},
		{"demo -color", "-color"},
	} {
		code, stdout, stderr := netbench(t.Context(), tt.line)
		if code != exitUsage || stdout != "" || !strings.Contains(stderr, tt.advice) || !strings.Contains(stderr, " -h for ") {
			t.Errorf("netbench %s: code %d, stdout %q\nstderr %q", tt.line, code, stdout, stderr)
		}
	}
}

func TestHelpNamesEveryFlag(t *testing.T) {
	for i := range commands {
		cmd := &commands[i]
		code, stdout, stderr := netbench(t.Context(), cmd.name+" -h")
		if code != exitOK || stderr != "" {
			t.Fatalf("%s: code %d, stderr %q", cmd.name, code, stderr)
		}
		for _, name := range append(append([]string{}, common...), cmd.flags...) {
			if !strings.Contains(stdout, "\n  -"+name+" ") && !strings.Contains(stdout, "\n  -"+name+"\n") {
				t.Errorf("%s -h does not mention -%s", cmd.name, name)
			}
		}
		// Every example is a command line that can be run.
		for _, e := range cmd.examples {
			e, _, _ = strings.Cut(e, "#")
			if _, err := parse(cmd, append(strings.Fields(e), "-addr", "127.0.0.1:7777")); err != nil {
				t.Errorf("%s %s: %v", cmd.name, e, err)
			}
		}
	}
	// Each flag belongs to some command.
	all := flag.NewFlagSet("", flag.ContinueOnError)
	define(all, new(config))
	all.VisitAll(func(f *flag.Flag) {
		for i := range commands {
			if commands[i].flagSet(new(config)).Lookup(f.Name) != nil {
				return
			}
		}
		t.Errorf("no command takes -%s", f.Name)
	})
}

func TestZeroOfAFlag(t *testing.T) {
	cmd, _ := find("echo")
	c, err := parse(cmd, strings.Fields("-addr h:1 -warmup 0 -seed 9"))
	if err != nil || c.plan.WithDefaults().Warmup != 0 || c.plan.Seed != 9 {
		t.Errorf("%v %+v", err, c)
	}
}

func TestFilesAndCompare(t *testing.T) {
	dir := t.TempDir()
	a, b, curve, page := filepath.Join(dir, "a.json"), filepath.Join(dir, "b.json"), filepath.Join(dir, "a.hgrm"), filepath.Join(dir, "a.html")
	addr := echo(t, false)
	for _, line := range []string{"echo -json " + a + " -hgrm " + curve + " -html " + page + brief + addr, "echo -json " + b + brief + addr} {
		if code, _, stderr := netbench(t.Context(), line); code != exitOK {
			t.Fatalf("netbench %s: code %d, stderr %q", line, code, stderr)
		}
	}
	if text, err := os.ReadFile(curve); err != nil || !bytes.Contains(text, []byte("Percentile")) {
		t.Errorf("%v: %q", err, text)
	}
	code, stdout, stderr := netbench(t.Context(), "compare "+a+" "+b)
	if code != exitOK || !strings.Contains(stdout, "messages/s") || !strings.Contains(stdout, "reply p99.9") {
		t.Errorf("code %d, stderr %q\n%s", code, stderr, stdout)
	}
	compared := filepath.Join(dir, "compared.html")
	for _, line := range []string{a + " " + b + " -html " + compared, "-html " + compared + " " + a + " -- " + b, a + " -html=" + compared + " " + b} {
		os.Remove(compared)
		if code, _, stderr := netbench(t.Context(), "compare "+line); code != exitOK {
			t.Errorf("compare %s: code %d, stderr %q", line, code, stderr)
		}
		if text, err := os.ReadFile(compared); err != nil || !bytes.Contains(text, []byte("</html>")) || !bytes.Contains(text, []byte(b)) {
			t.Errorf("compare %s: %v: %.200s", line, err, text)
		}
	}
	if text, err := os.ReadFile(page); err != nil || !bytes.Contains(text, []byte("</html>")) {
		t.Errorf("%v: %.200s", err, text)
	}
	for _, bad := range []string{curve, filepath.Join(dir, "none.json")} {
		if code, _, stderr := netbench(t.Context(), "compare "+a+" "+bad); code != exitFault || !strings.Contains(stderr, bad) {
			t.Errorf("compare with %s: code %d, stderr %q", bad, code, stderr)
		}
	}
	code, stdout, _ = netbench(t.Context(), "echo -json -"+brief+addr)
	if r, err := bench.ReadResult(strings.NewReader(stdout)); code != exitOK || err != nil || r.Totals.Messages == 0 {
		t.Errorf("code %d, error %v:\n%s", code, err, stdout)
	}
}

func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	code, stdout, stderr := netbench(ctx, "echo -warmup 0 -duration 1m -addr "+echo(t, false))
	if code != exitOK || !strings.HasPrefix(stdout, "OK so far, interrupted") || stderr != "" {
		t.Errorf("code %d, stderr %q\n%s", code, stderr, stdout)
	}
}
