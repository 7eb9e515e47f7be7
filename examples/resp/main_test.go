package main

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/servercore-go/servercore/pool"
)

func start(t *testing.T) (addr string) {
	t.Helper()
	e, l, err := serve("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
		if n := pool.Live(); n != 0 {
			t.Errorf("%d buffers were not released", n)
		}
	})
	return l.Addr().String()
}

// talk sends bytes in pieces of the given size, shuts down its writing side, and returns all that comes back.
func talk(t *testing.T, addr, request string, piece int) string {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	for ; len(request) > 0; request = request[min(piece, len(request)):] {
		if _, err := io.WriteString(c, request[:min(piece, len(request))]); err != nil {
			t.Fatal(err)
		}
	}
	_ = c.(*net.TCPConn).CloseWrite()
	got, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	return string(got)
}

func encode(args ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "*%d\r\n", len(args))
	for _, a := range args {
		fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(a), a)
	}
	return b.String()
}

func TestCommands(t *testing.T) {
	addr := start(t)
	long := strings.Repeat("v", 300_000)
	for _, c := range []struct{ name, request, want string }{
		{"ping", encode("PING"), "+PONG\r\n"},
		{"by hand", "ping\r\nECHO  hi\n\r\nGET nothing\r\n", "+PONG\r\n$2\r\nhi\r\n$-1\r\n"},
		{"set, get, del", encode("SET", "k", "v\r\n\x00") + encode("get", "k") + encode("DEL", "k", "l") + encode("GET", "k"),
			"+OK\r\n$4\r\nv\r\n\x00\r\n:1\r\n$-1\r\n"},
		{"empty", encode("SET", "", "") + encode("GET", ""), "+OK\r\n$0\r\n\r\n"},
		{"long", encode("SET", "l", long) + encode("GET", "l"), "+OK\r\n$300000\r\n" + long + "\r\n"},
		{"no command", encode() + encode("PING"), "+PONG\r\n"},
		{"unknown", encode("FLY") + encode("PING"), "-ERR unknown command '\"FLY\"'\r\n+PONG\r\n"},
		{"too few", encode("GET"), "-ERR wrong number of arguments for 'get' command\r\n"},
		{"quit", encode("QUIT") + encode("PING"), "+OK\r\n"},
		{"not a string", "*1\r\n:5\r\n", "-ERR Protocol error: expected '$', got ':'\r\n"},
		{"negative", "*-1\r\n", "-ERR Protocol error: expected a number from 0 to 1024, got \"-1\"\r\n"},
		{"too many", "*99999\r\n", "-ERR Protocol error: expected a number from 0 to 1024, got \"99999\"\r\n"},
		{"huge", "*1\r\n$999999999999\r\n", "-ERR Protocol error: expected a number from 0 to 524288, got \"999999999999\"\r\n"},
		{"endless number", "*1\r\n$" + strings.Repeat("1", 40), "-ERR Protocol error: no end of line in 32 bytes\r\n"},
		{"together too long", "*3\r\n" + strings.Repeat(fmt.Sprintf("$%d\r\n%s\r\n", len(long), long), 2),
			"-ERR Protocol error: arguments of more than 524288 bytes\r\n"},
		{"a string of nothing", "$4\r\nPING\r\n" + encode("PING"), "-ERR Protocol error: a string outside of a command\r\n"},
		{"wrong end", "*1\r\n$1\r\nabc", "-ERR Protocol error: a string does not end where it should\r\n"},
	} {
		for _, piece := range []int{1 << 20, 7} {
			if got := talk(t, addr, c.request, piece); got != c.want {
				t.Errorf("%s, in pieces of %d: %.200q, want %.200q", c.name, piece, got, c.want)
			}
		}
	}
}

// A command without an end is refused when it is too long.
func TestEndless(t *testing.T) {
	got := talk(t, start(t), strings.Repeat("x", maxLine), 1<<12)
	if !strings.HasPrefix(got, "-ERR Protocol error: no end of line in 65536 bytes") {
		t.Errorf("got %q", got)
	}
}

// The commands do not depend on how the stream is cut.
func FuzzChopped(f *testing.F) {
	f.Add([]byte(encode("SET", "k", "v")+"ping\r\n"+encode("GET", "k")), uint64(1))
	f.Add([]byte("*2\r\n$3\r\nGET\r\n$-1\r\n"), uint64(2))
	f.Add([]byte("*0\r\n\r\n\n*1\n$0\n\r\n"), uint64(3))
	f.Fuzz(func(t *testing.T, stream []byte, seed uint64) {
		cut := func(next func(left int) int) (list []string) {
			var c command
			rest, part, scanned := stream, []byte(nil), 0
			for {
				p, n, err := elements{}.SplitFrom(part, scanned)
				if err != nil || n < 0 || n > len(part) || len(p) != n {
					t.Fatalf("SplitFrom(%q, %d) is %q, %d, %v", part, scanned, p, n, err)
				}
				switch {
				case n > 0:
					args, err := c.add(p)
					if err != nil {
						return append(list, "error") // the rest is ignored
					}
					if args != nil {
						list = append(list, fmt.Sprintf("%q", args))
					}
					part, scanned = part[n:], 0
				case len(rest) == 0:
					return append(list, fmt.Sprintf("%q, %d to come, and %q", c.args, c.left, part))
				default:
					k := next(len(rest))
					scanned = len(part)
					part = append(part[:len(part):len(part)], rest[:k]...)
					rest = rest[k:]
				}
			}
		}
		whole := cut(func(left int) int { return left })
		r := rand.New(rand.NewPCG(seed, 0))
		chopped := cut(func(left int) int { return 1 + r.IntN(min(left, 7)) })
		if strings.Join(whole, " ") != strings.Join(chopped, " ") {
			t.Errorf("%q whole, %q chopped", whole, chopped)
		}
	})
}

// redis-benchmark, an independent client, finds no error.
func TestRedisBenchmark(t *testing.T) {
	benchmark, err := exec.LookPath("redis-benchmark")
	if err != nil {
		t.Log("not run: redis-benchmark is not installed (Debian: apt-get install redis-tools)")
		return
	}
	_, port, err := net.SplitHostPort(start(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, depth := range []string{"1", "16"} {
		out, err := exec.Command(benchmark, "-p", port, "-t", "ping,set,get", "-n", "20000", "-c", "50", "-P", depth, "-q").CombinedOutput()
		t.Logf("depth %s:\n%s", depth, bytes.ReplaceAll(out, []byte("\r"), []byte("\n")))
		if err != nil || bytes.Contains(out, []byte("Error")) || bytes.Contains(out, []byte("WARNING")) || bytes.Count(out, []byte("requests per second")) < 3 {
			t.Errorf("redis-benchmark: %v", err)
		}
	}
}
