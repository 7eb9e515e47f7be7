package echoserver

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// patience is how long a test waits for an event before it fails.
const patience = 20 * time.Second

// asServer is the variable that makes the test binary run the program, for tests that need a process of their own.
const asServer = "ECHOSERVER_TEST_AS_SERVER"

// shortTimes is the variable with the time that such a program waits for a successor.
const shortTimes = "ECHOSERVER_TEST_SHORT_TIMES"

// hasty is the GORACE setting that spares a program under the race detector its second of sleep at the end.
const hasty = "GORACE=atexit_sleep_ms=0"

func TestMain(m *testing.M) {
	if os.Getenv(asServer) != "" {
		if d, err := time.ParseDuration(os.Getenv(shortTimes)); err == nil {
			startTimeout, endTimeout = d, d
		}
		os.Exit(MainWithPages(context.Background(), testPages, os.Args[1:], os.Environ(), os.Stdout, os.Stderr))
	}
	signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP) // under nohup the programs that the tests start would ignore it too
	goleak.VerifyTestMain(m, goleak.IgnoreCurrent())
}

// badFlags are command lines with a part of the error that each gets.
var badFlags = []struct{ args, advice string }{
	{"-addr 7777", "use host:port, such as :7777"},
	{"-addr ::1", "use host:port"},
	{"-addr :http", "the port must be a number"},
	{"-addr :65536", "the port must be a number"},
	{"-addr unix:", "use unix:PATH"},
	{"-loops -1", "use 0 (one for each CPU) or a positive number"},
	{"-loops many", "use 0 (one for each CPU)"},
	{"-mode chat", "use echo, game, broadcast or discard"},
	{"-max-sessions -5", "use 0 (as many as open files allow)"},
	{"-send-limit 4096", "use 0 (1 MiB) or at least 131072"},
	{"-send-limit -1", "use 0 (1 MiB) or at least 131072"},
	{"-idle 90", "use 0 (never) or a time with its unit"},
	{"-idle -1s", "use 0 (never)"},
	{"-keep-alive 90", "use 0 (15s) or a time with its unit"},
	{"-stats -1s", "use 0 (off)"},
	{"-log-level loud", "use debug, info, warn or error"},
	{"-observe 9100", "-observe \"9100\": use host:port"},
	{"-observe unix:", "-observe \"unix:\" has no path"},
	{"-observe-admin", "give -observe an address too"},
	{"-color", "-color"},
	{"-record-ring 64", "-record-ring needs -record"},
	{"-record-ring -1 -record x", "use 0 (write everything)"},
	{"serve", "everything is set by flags"},
}

// Good flags set the config. The error of a bad one says what to use, and the program exits with code 2.
func TestParseFlags(t *testing.T) {
	defaults := config{
		addr: ":7777", network: "tcp", address: ":7777", mode: "echo", logLevel: slog.LevelInfo, drain: time.Minute,
	}
	with := func(change func(*config)) *config {
		c := defaults
		change(&c)
		return &c
	}
	good := []struct {
		args string
		want *config
	}{
		{"", &defaults},
		{"-addr 127.0.0.1:0", with(func(c *config) { c.addr, c.address = "127.0.0.1:0", "127.0.0.1:0" })},
		{"-addr unix:/run/e.sock", with(func(c *config) {
			c.addr, c.network, c.address = "unix:/run/e.sock", "unix", "/run/e.sock"
		})},
		{"-mode game", with(func(c *config) { c.mode = "game" })},
		{"-loops 3 -max-sessions 10", with(func(c *config) { c.loops, c.maxSessions = 3, 10 })},
		{"-loops 0 -max-sessions 0 -send-limit 0 -idle 0 -stats 0", &defaults},
		{"-send-limit 131072", with(func(c *config) { c.sendLimit = 128 << 10 })},
		{"-idle 90s -stats 1s", with(func(c *config) { c.idle, c.stats = 90*time.Second, time.Second })},
		{"-keep-alive 5m", with(func(c *config) { c.keepAlive = 5 * time.Minute })},
		{"--log-level DEBUG", with(func(c *config) { c.logLevel = slog.LevelDebug })},
	}
	for _, tt := range good {
		got, err := parseFlags(strings.Fields(tt.args), nil)
		if err != nil {
			t.Errorf("%q: %v", tt.args, err)
		} else if !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%q\n got %+v\nwant %+v", tt.args, *got, *tt.want)
		}
	}
	for _, tt := range badFlags {
		args := strings.Fields(tt.args)
		if _, err := parseFlags(args, nil); err == nil || !strings.Contains(err.Error(), tt.advice) {
			t.Errorf("%q: error %v does not say %q", tt.args, err, tt.advice)
		}
		var stdout, stderr bytes.Buffer
		if code := Main(t.Context(), args, nil, &stdout, &stderr); code != exitUsage {
			t.Errorf("%q: exit code %d, want %d", tt.args, code, exitUsage)
		}
		if stdout.Len() > 0 || !strings.Contains(stderr.String(), tt.advice) {
			t.Errorf("%q: stdout %q, stderr %q", tt.args, &stdout, &stderr)
		}
	}
}

func TestHelpNamesEveryFlagAndExitCode(t *testing.T) {
	for _, arg := range []string{"-h", "--help"} {
		var stdout, stderr bytes.Buffer
		if code := Main(t.Context(), []string{arg}, nil, &stdout, &stderr); code != exitOK || stderr.Len() > 0 {
			t.Fatalf("%s: exit code %d, stderr %q", arg, code, &stderr)
		}
		flagSet(new(config)).VisitAll(func(f *flag.Flag) {
			if text := stdout.String(); !strings.Contains(text, "\n  -"+f.Name+" ") && !strings.Contains(text, "\n  -"+f.Name+"\n") {
				t.Errorf("%s does not mention -%s", arg, f.Name)
			}
		})
		for _, part := range append(modeList(), "Exit codes: 0 ", "; 1 ", "; 2 ") {
			if !strings.Contains(stdout.String(), part) {
				t.Errorf("%s does not mention %q", arg, part)
			}
		}
	}
	if len(modeList()) != len(modes) {
		t.Errorf("%d modes are listed, %d exist", len(modeList()), len(modes))
	}
}

func FuzzParseAddr(f *testing.F) {
	for _, s := range []string{
		":7777", "127.0.0.1:0", "[::1]:7777", "[fe80::1%eth0]:80", "localhost:80", "unix:/tmp/e.sock", "unix:a:b",
		"", "unix:", "7777", "::1", "a:b", ":-1", ":65536", ":+1", "unix:\x00", "[::1]", "[", "]:1", "\xff:1",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		network, address, err := parseAddr("addr", s)
		if err != nil {
			if network != "" || address != "" || !strings.Contains(err.Error(), "-addr") {
				t.Fatalf("%q: network %q, address %q, error %v", s, network, address, err)
			}
			return
		}
		switch network {
		case "unix":
			if address == "" || s != "unix:"+address || strings.ContainsRune(address, 0) {
				t.Fatalf("%q: unix address %q", s, address)
			}
		case "tcp":
			_, port, err := net.SplitHostPort(address)
			if err != nil || address != s {
				t.Fatalf("%q: address %q, %v", s, address, err)
			}
			if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
				t.Fatalf("%q: port %q", s, port)
			}
		default:
			t.Fatalf("%q: network %q", s, network)
		}
	})
}

func TestAddressInUse(t *testing.T) {
	for _, addr := range everyAddr(t) {
		s := start(t, "-addr", addr)
		used := formatAddr(s.addr())
		var stdout, stderr bytes.Buffer
		if code := Main(t.Context(), []string{"-addr", used}, nil, &stdout, &stderr); code != exitFault {
			t.Errorf("%s: exit code %d, want %d", used, code, exitFault)
		}
		if stdout.Len() > 0 || !strings.Contains(stderr.String(), used) {
			t.Errorf("%s: stdout %q, stderr %q", used, &stdout, &stderr)
		}
	}
}

// With -max-sessions 1, the second client is refused.
func TestMaxSessions(t *testing.T) {
	s := start(t, "-addr", "127.0.0.1:0", "-max-sessions", "1", "-log-level", "debug")
	first := s.dial()
	s.log.wait(t, "msg=connected", 1)
	wantEnd(t, s.dial())
	first.Close()
	s.log.wait(t, "msg=disconnected", 1)
	if n := strings.Count(s.log.String(), "msg=connected"); n != 1 {
		t.Errorf("%d clients were served, want 1", n)
	}
}

// With -idle, a silent client is disconnected.
func TestIdle(t *testing.T) {
	s := start(t, "-addr", "127.0.0.1:0", "-idle", "100ms")
	wantEnd(t, s.dial())
}

// wantEnd waits until the server ends the connection, by FIN or reset, and checks that it sent no byte.
func wantEnd(t *testing.T, c stream) {
	t.Helper()
	if n, err := c.Read(make([]byte, 1)); n > 0 || err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read %d bytes, error %v; want the end", n, err)
	}
	c.Close()
}

// everyAddr returns one value of -addr for each kind of listener that this machine supports.
func everyAddr(t *testing.T) []string {
	// Not t.TempDir: its path may be too long for the address of a unix socket.
	dir, err := os.MkdirTemp("", "echo")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	addrs := []string{"127.0.0.1:0", "unix:" + filepath.Join(dir, "s")}
	if l, err := net.Listen("tcp6", "[::1]:0"); err == nil {
		l.Close()
		addrs = append(addrs, "[::1]:0")
	}
	return addrs
}

// A server is the program, run inside the test's process.
type server struct {
	t        *testing.T
	out, log *transcript
}

// start runs the program and waits until it accepts. At the end of the test it stops the program, whose exit code must be 0.
func start(t *testing.T, args ...string) *server {
	t.Helper()
	s := &server{t, newTranscript(), newTranscript()}
	ctx, cancel := context.WithCancel(context.Background())
	exit := make(chan int, 1)
	go func() {
		exit <- Main(ctx, args, nil, s.out, s.log)
		s.out.close()
		s.log.close()
	}()
	t.Cleanup(func() {
		cancel()
		select {
		case code := <-exit:
			if code != exitOK {
				t.Errorf("exit code %d, want 0; log:\n%s", code, s.log)
			}
		case <-time.After(patience):
			t.Errorf("the server does not stop; log:\n%s", s.log)
		}
	})
	s.out.wait(t, "\n", 1)
	return s
}

// addr returns the address that the server prints.
func (s *server) addr() net.Addr {
	s.t.Helper()
	line, _, _ := strings.Cut(s.out.String(), "\n")
	said, ok := strings.CutPrefix(line, "listening on ")
	network, address, err := parseAddr("addr", said)
	if !ok || err != nil {
		s.t.Fatalf("first line %q, log:\n%s", line, s.log)
	}
	if network == "unix" {
		return &net.UnixAddr{Net: "unix", Name: address}
	}
	tcp, err := net.ResolveTCPAddr(network, address)
	if err != nil || tcp.Port == 0 {
		s.t.Fatalf("first line %q is not a real address: %v", line, err)
	}
	return tcp
}

// stream is a TCP or unix connection.
type stream interface {
	net.Conn
	CloseWrite() error
}

func (s *server) dial() stream {
	s.t.Helper()
	a := s.addr()
	c, err := net.DialTimeout(a.Network(), a.String(), patience)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	return c.(stream)
}

// A transcript collects what the program prints and lets a test wait for it.
type transcript struct {
	mu      sync.Mutex
	text    strings.Builder
	changed chan struct{} // closed and replaced at each write
	err     error         // set when nothing more can come
}

func newTranscript() *transcript { return &transcript{changed: make(chan struct{})} }

func (tr *transcript) Write(p []byte) (int, error) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	close(tr.changed)
	tr.changed = make(chan struct{})
	return tr.text.Write(p)
}

func (tr *transcript) close() {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.err = errors.New("the program has ended")
	close(tr.changed)
	tr.changed = make(chan struct{})
}

func (tr *transcript) String() string {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return tr.text.String()
}

// wait waits until the transcript contains text n times.
func (tr *transcript) wait(t *testing.T, text string, n int) {
	t.Helper()
	late := time.After(patience)
	for {
		tr.mu.Lock()
		found, changed, err := strings.Count(tr.text.String(), text), tr.changed, tr.err
		tr.mu.Unlock()
		if found >= n {
			return
		}
		if err != nil {
			t.Fatalf("%q appears %d times, not %d, and %v:\n%s", text, found, n, err, tr)
		}
		select {
		case <-changed:
		case <-late:
			t.Fatalf("%q appears %d times, not %d, in:\n%s", text, found, n, tr)
		}
	}
}
