//go:build linux

package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

var (
	programs string   // where TestMain has built everything
	built    []server // which of the servers it has built
)

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "compare-test-")
		if err != nil {
			panic(err)
		}
		defer os.RemoveAll(dir)
		// The tests need Go alone. Without gcc they leave the C programs out; c_test.go has those that are about them.
		err = buildGo(context.Background(), dir)
		if _, missing := exec.LookPath("gcc"); missing != nil {
			fmt.Println("there is no gcc: the tests leave the C programs out")
			built = slices.DeleteFunc(slices.Clone(servers), func(s server) bool { return s.program == cepoll })
		} else {
			built, err = servers, errors.Join(err, buildC(context.Background(), dir))
		}
		if err != nil {
			panic(err)
		}
		programs = dir
		return m.Run()
	}())
}

func testRunner(t *testing.T, args ...string) *runner {
	t.Helper()
	cfg, err := parse(args, os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	s, err := newStarter()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { close(s.jobs) })
	return &runner{cfg: cfg, dir: programs, starter: s, log: t.Output()}
}

func (r *runner) mustLaunch(t *testing.T, s server, w workload) *running {
	t.Helper()
	p, err := r.launch(t.Context(), s, w)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.kill() })
	return p
}

// dial connects to p, over TLS if that is what p speaks.
func dial(t *testing.T, p *running) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", p.addr)
	if err != nil {
		t.Fatal(err)
	}
	if slices.Contains(p.speaks, "-tls") {
		return tlsOver(t, c)
	}
	return bounded(t, c)
}

// tlsOver shakes hands over c and trusts the servers' certificate.
func tlsOver(t *testing.T, c net.Conn) net.Conn {
	t.Helper()
	roots := x509.NewCertPool()
	if file, err := os.ReadFile(certFile(programs)); err != nil || !roots.AppendCertsFromPEM(file) {
		t.Fatalf("the servers' certificate: %v", err)
	}
	host, _, err := net.SplitHostPort(c.RemoteAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	secure := tls.Client(c, &tls.Config{RootCAs: roots, ServerName: host})
	bounded(t, secure)
	if err := secure.Handshake(); err != nil {
		t.Fatal(err)
	}
	return secure
}

// bounded ends what waits for c after 10 s, and closes c with the test.
func bounded(t *testing.T, c net.Conn) net.Conn {
	c.SetDeadline(time.Now().Add(10 * time.Second))
	t.Cleanup(func() { c.Close() })
	return c
}

func noise(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{1})
	r.Read(b)
	return b
}

// The client writes more than the kernel buffers before it reads, so the server finds a full socket.
func TestEcho(t *testing.T) {
	r := testRunner(t)
	for _, s := range built {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			testEcho(t, r.mustLaunch(t, s, topRate))
		})
	}
	for _, s := range tlsServers {
		t.Run("tls-"+s.name, func(t *testing.T) {
			t.Parallel()
			testEcho(t, r.mustLaunch(t, s, find(t, "tls-echo-64x64")))
		})
	}
}

// The last bytes of each record come in a segment of their own and the client reads late, so that a server that decrypts into the memory of a
// read finds a record that is longer than the read, and a full socket to answer to: llib 1.2.2, which nbio 1.6.8 asks for, then mixes up bytes.
func TestEchoOfRecordsInTwoParts(t *testing.T) {
	r := testRunner(t)
	for _, s := range tlsServers {
		t.Run("tls-"+s.name, func(t *testing.T) {
			t.Parallel()
			p := r.mustLaunch(t, s, find(t, "tls-echo-64x64"))
			raw, err := net.Dial("tcp", p.addr)
			if err != nil {
				t.Fatal(err)
			}
			testEchoOver(t, tlsOver(t, &partedConn{Conn: raw}), 4<<20, time.Second)
		})
	}
}

// partedConn sends the last bytes of what is written a moment after the others.
type partedConn struct{ net.Conn }

func (c *partedConn) Write(b []byte) (int, error) {
	cut := max(0, len(b)-100)
	n, err := c.Conn.Write(b[:cut])
	if err != nil {
		return n, err
	}
	time.Sleep(time.Millisecond)
	m, err := c.Conn.Write(b[cut:])
	return n + m, err
}

func testEcho(t *testing.T, p *running) {
	testEchoOver(t, dial(t, p), 16<<20, 50*time.Millisecond)
}

// testEchoOver writes n bytes and begins to read them after late.
func testEchoOver(t *testing.T, c net.Conn, n int, late time.Duration) {
	sent := noise(n)
	go func() {
		c.Write(sent)
	}()
	time.Sleep(late) // for the buffers on the way to fill; no event tells when they are
	got := make([]byte, len(sent))
	if n, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, sent) {
		t.Fatalf("%d of %d bytes came back, identical: %v, error %v", n, len(sent), bytes.Equal(got, sent), err)
	}
}

// find returns the workload of that name.
func find(t *testing.T, name string) workload {
	t.Helper()
	found, err := pick("workloads", name, allWorkloads)
	if err != nil {
		t.Fatal(err)
	}
	return found[0]
}

// -base builds what a revision has, and each workload is measured on it next to ours. A copy of the files that is no repository gets the error alone.
func TestBase(t *testing.T) {
	dir := t.TempDir()
	if _, err := buildBase(t.Context(), dir, "no-such-revision"); err == nil || !strings.Contains(err.Error(), "use a commit, branch or tag") {
		t.Errorf("an unknown revision: %v", err)
	}
	if err := exec.Command("git", "rev-parse", "HEAD").Run(); err != nil {
		t.Logf("not a repository that git reads (%v): there is no revision to build", err)
		return
	}
	number, err := buildBase(t.Context(), dir, "HEAD")
	if err != nil || len(number) < 12 {
		t.Fatalf("%q, %v", number, err)
	}
	r := testRunner(t, "-base", "HEAD")
	for _, w := range allWorkloads {
		on := r.cfg.on(w)
		if len(on) != len(w.servers())+1 || on[0].name != ours || on[1].name != oursBase {
			t.Fatalf("%s is measured on %s", w, names(on))
		}
		program, _ := on[1].command(w, dir)
		if _, err := os.Stat(filepath.Join(dir, program)); err != nil {
			t.Errorf("%s: %v", w, err)
		}
	}
	if err := writeCert(dir); err != nil {
		t.Fatal(err)
	}
	r.dir = dir
	testEcho(t, r.mustLaunch(t, r.cfg.on(topRate)[1], topRate))
}

func TestBroadcast(t *testing.T) {
	r := testRunner(t)
	for _, cut := range []int{0, 1000} {
		w := workload{args: []string{"fanout"}, cut: cut}
		for _, s := range built {
			t.Run(s.name+map[bool]string{true: "-cut"}[cut > 0], func(t *testing.T) {
				t.Parallel()
				testBroadcast(t, r.mustLaunch(t, s, w))
			})
		}
	}
	for _, s := range tlsServers {
		t.Run("tls-"+s.name, func(t *testing.T) {
			t.Parallel()
			testBroadcast(t, r.mustLaunch(t, s, find(t, "tls-fanout-1000")))
		})
	}
}

func testBroadcast(t *testing.T, p *running) {
	a, b, c := dial(t, p), dial(t, p), dial(t, p)
	// A server may not know a connection yet when it is connected. So wait until each member has got something.
	for _, listener := range []net.Conn{b, c} {
		introduce(t, a, listener)
	}
	said := noise(512 << 10)
	go a.Write(said)
	for _, listener := range []net.Conn{b, c} { // c reads late: its bytes have to be kept
		heard := make([]byte, len(said))
		if _, err := io.ReadFull(skipZeros(listener), heard); err != nil || !bytes.Equal(heard, said) {
			t.Fatalf("heard something else, error %v", err)
		}
	}
	c.Close()
	// The first byte that comes back to a is one that b sent: a does not hear itself.
	if _, err := b.Write([]byte("b")); err != nil {
		t.Fatal(err)
	}
	heard := make([]byte, 1)
	if _, err := io.ReadFull(a, heard); err != nil || heard[0] != 'b' {
		t.Fatalf("a heard %q, error %v", heard, err)
	}
}

// introduce sends zeros until the receiver has got one.
func introduce(t *testing.T, from, to net.Conn) {
	t.Helper()
	for range 500 {
		if _, err := from.Write([]byte{0}); err != nil {
			t.Fatal(err)
		}
		to.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
		if n, _ := to.Read(make([]byte, 1)); n > 0 {
			to.SetReadDeadline(time.Now().Add(10 * time.Second))
			return
		}
	}
	t.Fatal("the listener heard nothing for 5 s")
}

// skipZeros returns the bytes after the zeros of introduce. noise does not begin with a zero.
func skipZeros(c net.Conn) io.Reader {
	first := make([]byte, 1)
	for {
		if _, err := io.ReadFull(c, first); err != nil || first[0] != 0 {
			return io.MultiReader(bytes.NewReader(first), c)
		}
	}
}

func TestServersEndOnSignal(t *testing.T) {
	r := testRunner(t)
	for _, s := range slices.Concat(built, wsServers[2:7]) { // these are the programs that the list before has not
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			w := topRate
			if slices.ContainsFunc(wsServers, func(one server) bool { return one.program == s.program }) {
				w = find(t, "ws-echo-64x64")
			}
			p := r.mustLaunch(t, s, w)
			p.cmd.Process.Signal(syscall.SIGTERM)
			select {
			case <-p.ended:
				if code := p.cmd.ProcessState.ExitCode(); code != 0 {
					t.Errorf("exit code %d: %s", code, p.said.tail())
				}
			case <-time.After(15 * time.Second):
				t.Error("still there after SIGTERM")
			}
		})
	}
}

// The whole program runs every kind of workload once, for a short time.
func TestCompare(t *testing.T) {
	out := filepath.Join(t.TempDir(), "peers")
	var stdout, stderr strings.Builder
	code := run(t.Context(), strings.Fields("-rounds 1 -duration 200ms -warmup 50ms -servers ours,gnet,std -workloads echo-64x64,ncs-multicast,churn,half-load -out "+out), &stdout, &stderr)
	if code != exitOK {
		t.Fatalf("exit code %d:\n%s\n%s", code, &stderr, &stdout)
	}
	file, err := os.ReadFile(out + ".json")
	if err != nil {
		t.Fatal(err)
	}
	var rep report
	if err := json.Unmarshal(file, &rep); err != nil || len(rep.Outcomes) != 4 {
		t.Fatalf("%d outcomes, error %v", len(rep.Outcomes), err)
	}
	for _, o := range rep.Outcomes {
		for i := range o.Series {
			if good := o.Series[i].good(); len(good) != 1 || good[0].PerS <= 0 || good[0].P50 <= 0 {
				t.Errorf("%s of %s: %+v", o.Workload, o.Series[i].Server, o.Series[i].Samples)
			}
		}
	}
	if md, err := os.ReadFile(out + ".md"); err != nil || string(md) != stdout.String() {
		t.Errorf("the file and what was printed differ, error %v", err)
	}
}

// The same over TLS, where handshakes are full or resumed, and over WebSocket.
func TestCompareLayers(t *testing.T) {
	var stdout, stderr strings.Builder
	args := "-rounds 1 -duration 200ms -warmup 50ms -workloads tls-echo-4k-64,tls-handshake,tls-resume,ws-echo-64x64,ws-deflate-64 -out " + filepath.Join(t.TempDir(), "layers")
	if code := run(t.Context(), strings.Fields(args), &stdout, &stderr); code != exitOK {
		t.Fatalf("exit code %d:\n%s\n%s", code, &stderr, &stdout)
	}
	for _, want := range []string{"| ours ", "| ours-plain ", "| std ", "| nbio ", "| gobwas ", "| ours to it |", "## tls-resume", "*Ours to it* is"} {
		if !strings.Contains(stdout.String(), want) {
			t.Errorf("%q is missing in\n%s", want, &stdout)
		}
	}
}

// A server that does not start, and one that ends early, are reported as failures.
func TestFailuresShow(t *testing.T) {
	r := testRunner(t, "-duration", "100ms", "-warmup", "0")
	broken := server{name: "broken", program: "gnet", args: []string{"-broken"}}
	if got := r.measure(t.Context(), topRate, broken); !strings.Contains(got.Failure, "ended before it listened") || !strings.Contains(got.Failure, "-reuseport") {
		t.Errorf("%+v", got)
	}
	p := r.mustLaunch(t, servers[0], topRate)
	p.cmd.Process.Kill()
	<-p.ended
	if err := p.kill(); err == nil || !strings.Contains(err.Error(), "ended during the run") {
		t.Errorf("%v", err)
	}
	if _, err := r.netbench(t.Context(), topRate, p); err == nil {
		t.Error("there are figures of a server that is gone")
	}
}

// After Ctrl-C the results so far are kept, without the interrupted measurement.
func TestInterrupted(t *testing.T) {
	r := testRunner(t, "-duration", "100ms", "-warmup", "0", "-servers", "std", "-rounds", "1000", "-workloads", "echo-64x64,churn")
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	all, _ := r.run(ctx)
	if len(all) != 1 || len(all[0].Series[0].Samples) == 0 {
		t.Fatalf("%+v", all)
	}
	if lines := all[0].troubles(); len(lines) > 0 {
		t.Errorf("%q", lines)
	}
}
