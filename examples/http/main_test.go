package main

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/servercore-go/servercore/engine"
	"github.com/servercore-go/servercore/pool"
)

func start(t *testing.T, patience time.Duration) (addr string) {
	t.Helper()
	_, addr = startEngine(t, patience)
	return addr
}

func startEngine(t *testing.T, patience time.Duration) (e *engine.Engine, addr string) {
	t.Helper()
	e, l, err := serve("127.0.0.1:0", patience)
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
	return e, l.Addr().String()
}

// talk sends bytes in pieces, shuts down its writing side, and returns all that comes back.
func talk(t *testing.T, addr string, pieces ...string) string {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	for _, p := range pieces {
		if _, err := io.WriteString(c, p); err != nil {
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

func TestWithTheStandardClient(t *testing.T) {
	addr := start(t, time.Minute)
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	for range 3 { // on one connection
		r, err := client.Get("http://" + addr + "/")
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(r.Body)
		_ = r.Body.Close()
		if err != nil || r.StatusCode != http.StatusOK || string(body) != "Hello, World!\n" {
			t.Errorf("%s, %q, %v", r.Status, body, err)
		}
	}
	r, err := client.Head("http://" + addr + "/")
	if err != nil {
		t.Fatal(err)
	}
	if _ = r.Body.Close(); r.ContentLength != 14 {
		t.Errorf("HEAD: length %d", r.ContentLength)
	}
	r, err = client.Post("http://"+addr+"/", "text/plain", strings.NewReader(strings.Repeat("x", 40_000)))
	if err != nil {
		t.Fatal(err)
	}
	if _ = r.Body.Close(); r.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("POST: %s", r.Status)
	}
}

var statusLine = regexp.MustCompile(`HTTP/1\.1 (\d+)`)

func statuses(answers string) (list []string) {
	for _, m := range statusLine.FindAllStringSubmatch(answers, -1) {
		list = append(list, m[1])
	}
	return list
}

func TestAnswers(t *testing.T) {
	addr := start(t, time.Minute)
	const get = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"
	for _, c := range []struct{ name, request, want string }{
		{"one", get, "200"},
		{"pipelined", get + get + get, "200 200 200"},
		{"close", "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" + get, "200"},
		{"HTTP/1.0", "GET / HTTP/1.0\r\n\r\n" + get, "200"},
		{"HTTP/1.0 keep-alive", "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" + get, "200 200"},
		{"a body", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello" + get, "405 200"},
		{"chunks", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + get, "501"},
		{"garbage", "\x16\x03\x01\x02\x00\r\n\r\n" + get, "400"},
		{"two lengths", "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello" + get, "400"},
		{"a head too long", "GET / HTTP/1.1\r\nX: " + strings.Repeat("x", 2*maxHead), "431"},
		{"a body too long", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n" + strings.Repeat("x", maxHead), "413"},
		{"a body as long as it may be", fmt.Sprintf("POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n", maxBody) + strings.Repeat("x", maxBody) + get, "405 200"},
		{"HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "505"},
		{"half a request", get + "GET / HT", "200"},
	} {
		if got := strings.Join(statuses(talk(t, addr, c.request)), " "); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

// A client that does not complete its request gets an answer and is disconnected in time. A client that sends nothing is disconnected
// too.
func TestSlow(t *testing.T) {
	addr := start(t, 200*time.Millisecond)
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for _, err := io.WriteString(c, "GET / HTTP/1.1\r\n"); err == nil; _, err = io.WriteString(c, "X: x\r\n") {
			time.Sleep(20 * time.Millisecond)
		}
	}()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	got, _ := io.ReadAll(c)
	if s := statuses(string(got)); len(s) != 1 || s[0] != "408" {
		t.Errorf("got %q", got)
	}
	_ = c.Close()
	<-done
}

// Requests that arrive together are answered in order, in one write.
func TestPipelined(t *testing.T) {
	e, addr := startEngine(t, time.Minute)
	const n = 100
	var requests strings.Builder
	for i := range n {
		method := []string{"GET", "PUT"}[i%2]
		fmt.Fprintf(&requests, "%s / HTTP/1.1\r\nHost: x\r\n\r\n", method)
	}
	got := talk(t, addr, requests.String())
	if want := strings.TrimSpace(strings.Repeat("200 405 ", n/2)); strings.Join(statuses(got), " ") != want {
		t.Errorf("%.300q", got)
	}
	if s := e.Stats().Total; s.MessagesIn != 1 || s.Writes != 1 || s.MessagesOut != n {
		t.Errorf("%d reads, %d writes of %d answers", s.MessagesIn, s.Writes, s.MessagesOut)
	}
}

// The requests do not depend on how the stream is cut.
func FuzzChopped(f *testing.F) {
	f.Add([]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\nPOST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcGET"), uint64(1))
	f.Add([]byte("PUT / HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 9\r\n\r\nGET / HTTP/1.1\r\n\r\n"), uint64(2))
	f.Add([]byte("GET / HTTP/1.1\r\nX: "+strings.Repeat("x", maxHead)+"\r\n\r\n"), uint64(3))
	f.Fuzz(func(t *testing.T, stream []byte, seed uint64) {
		cut := func(next func(left int) int) (list []string) {
			var b inbox
			for rest := stream; len(rest) > 0; {
				piece := rest[:next(len(rest))]
				rest = rest[len(piece):]
				for len(piece) > 0 {
					r, n, refused := b.next(piece)
					if n <= 0 || n > len(piece) || len(b.head) > maxHead {
						t.Fatalf("took %d of %d bytes and keeps %d", n, len(piece), len(b.head))
					}
					piece = piece[n:]
					switch {
					case refused != 0:
						return append(list, fmt.Sprint(refused)) // the rest is ignored
					case r != nil:
						list = append(list, fmt.Sprintf("%s %s %q %t", r.Method, r.URL, r.Header, r.Close))
					}
				}
			}
			return append(list, fmt.Sprintf("%d %d", len(b.head), b.body))
		}
		whole := cut(func(left int) int { return left })
		r := rand.New(rand.NewPCG(seed, 0))
		chopped := cut(func(left int) int { return 1 + r.IntN(min(left, 7)) })
		if !slices.Equal(whole, chopped) {
			t.Errorf("%q whole, %q chopped", whole, chopped)
		}
	})
}

// wrk, an independent client, finds no error.
func TestWrk(t *testing.T) {
	wrk, err := exec.LookPath("wrk")
	if err != nil {
		t.Log("not run: wrk is not installed (Debian: apt-get install wrk)")
		return
	}
	out, err := exec.Command(wrk, "-c", "50", "-t", "1", "-d", "2s", "http://"+start(t, time.Minute)+"/").CombinedOutput()
	t.Logf("%s", out)
	if err != nil || !bytes.Contains(out, []byte("Requests/sec")) {
		t.Fatal(err)
	}
	for _, trouble := range []string{"Socket errors", "Non-2xx"} {
		if bytes.Contains(out, []byte(trouble)) {
			t.Errorf("wrk reports: %s", trouble)
		}
	}
}
