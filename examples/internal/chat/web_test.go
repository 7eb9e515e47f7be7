package chat

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/servercore-go/servercore/engine"
	"github.com/servercore-go/servercore/session"
)

// browser is a user of the page, without the page.
type browser struct {
	session.Session
	*testing.T
	lines chan string
}

func (b *browser) OnText(p []byte) { // the first message has the history too
	for line := range strings.SplitSeq(string(p), "\n") {
		b.lines <- line
	}
}
func (b *browser) OnRecv(p []byte)         { b.Errorf("a binary message: %q", p) }
func (b *browser) OnDisconnected(net.Addr) { close(b.lines) }

// browse connects a browser, with TLS if insecure is not nil.
func browse(t *testing.T, s *Server, query string, insecure *tls.Config) *browser {
	t.Helper()
	b := &browser{T: t, lines: make(chan string, 1000)}
	options := []engine.Option{engine.WebSocket(engine.WebSocketOptions{Path: "/chat" + query, Text: true, Compression: true})}
	if insecure != nil {
		options = append(options, engine.TLS(insecure))
	}
	if _, err := s.Dial(t.Context(), "tcp", s.Web.Addr().String(), func() session.Handler { return b }, options...); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *browser) say(line string) {
	b.Helper()
	if err := b.Send([]byte(line)); err != nil {
		b.Fatal(err)
	}
}

func (b *browser) want(lines ...string) {
	b.Helper()
	for _, want := range lines {
		select {
		case got, open := <-b.lines:
			if got != want || !open {
				b.Fatalf("got %q, open %v; want %q", got, open, want)
			}
		case <-time.After(10 * time.Second):
			b.Fatalf("nothing comes; want %q", want)
		}
	}
}

// A browser and a user of nc are in the same room. Who comes later gets what was said.
func TestBrowserAndLines(t *testing.T) {
	s := start(t, "127.0.0.1:0", false)
	cleo := browse(t, s, "?name=cleo", nil)
	cleo.want("* you are cleo in lobby, with 0 others")
	dan := dial(t, s.Lines.Addr().String())
	var guest string
	if _, err := fmt.Fscanf(dan.lines, "* you are %s in lobby, with 1 others\n", &guest); err != nil {
		t.Fatal(err)
	}
	cleo.want("* " + guest + " is here")
	dan.say("/name dan")
	dan.want("* you are now dan")
	cleo.want("* " + guest + " is now dan")
	cleo.say("hello, dan")
	cleo.want("cleo: hello, dan") // has arrived
	dan.want("cleo: hello, dan")
	dan.say("hello, cleo")
	cleo.want("dan: hello, cleo")

	erin := browse(t, s, "?name=erin&room=lobby", nil)
	erin.want("* you are erin in lobby, with 2 others", "cleo: hello, dan", "dan: hello, cleo")
	dan.want("* erin is here")
	cleo.want("* erin is here")

	// Nobody can make a line that others take for another one, and no message that a browser refuses.
	cleo.say("two\nlines\x1b[2J")
	dan.want("cleo: two lines [2J")
	cleo.want("cleo: two lines [2J")
	dan.say("no UTF-8: \xff\xfe.")
	cleo.want("dan: no UTF-8: ?.")
	cleo.say("/name cleo: x")
	cleo.want("* /name takes a word of 20 letters, digits, - and _ at most")
	cleo.say(strings.Repeat("x", maxText+1))
	cleo.want("* a line has 1000 bytes at most")

	// The longest line of the longest name comes to both.
	longest := strings.Repeat("\U00020000", maxWord) // 4 bytes each
	cleo.say("/name " + longest)
	cleo.want("* you are now " + longest)
	dan.want("* cleo is now " + longest)
	cleo.say(strings.Repeat("x", maxText))
	dan.want(longest + ": " + strings.Repeat("x", maxText))

	cleo.want(longest + ": " + strings.Repeat("x", maxText))
	cleo.say("/quit")
	dan.want("* " + longest + " has left")
	if line, open := <-cleo.lines; open {
		t.Errorf("cleo gets %q after /quit", line)
	}
}

// The history is the last 50 lines, and stays in the lobby when all have left.
func TestHistory(t *testing.T) {
	s := start(t, "127.0.0.1:0", false)
	for _, room := range []string{lobby, "kitchen"} {
		fay := browse(t, s, "?name=fay&room="+room, nil)
		fay.want("* you are fay in " + room + ", with 0 others")
		var said []string
		for i := range historyLines + 7 {
			line := fmt.Sprintf("%d %s", i, strings.Repeat("x", maxText-10))
			fay.say(line)
			fay.want("fay: " + line)
			said = append(said, "fay: "+line)
		}
		gil := browse(t, s, "?name=gil&room="+room, nil)
		gil.want("* you are gil in " + room + ", with 1 others")
		gil.want(said[7:]...)
		fay.want("* gil is here")
		gil.say("/quit")
		fay.want("* gil has left")
		fay.say("/join elsewhere") // nobody is left
		fay.want("* you are fay in elsewhere, with 0 others")
		fay.say("/join " + room)
		fay.want("* you are fay in " + room + ", with 0 others")
		if room == lobby {
			fay.want(said[7:]...)
		}
		fay.say("/who")
		fay.want("* fay")
		fay.say("/quit")
		if line, open := <-fay.lines; open {
			t.Errorf("%s: %q after /quit", room, line)
		}
	}
}

// The page is served at / and nowhere else, with TLS and without, and it is whole: it loads nothing else.
func TestPage(t *testing.T) {
	for _, secure := range []bool{false, true} {
		s := start(t, "127.0.0.1:0", secure)
		insecure := &tls.Config{InsecureSkipVerify: true}
		c := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: insecure}}
		defer c.CloseIdleConnections()
		url := PageURL(s.Web.Addr(), secure)
		for path, want := range map[string]int{"/": 200, "/?x=1": 200, "/page.html": 404, "/chat": 404} {
			r, err := c.Get(url + path)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(r.Body)
			_ = r.Body.Close()
			if err != nil || r.StatusCode != want || bytes.Equal(body, page) != (want == 200) {
				t.Errorf("%s%s: status %d, want %d; %d bytes, %v", url, path, r.StatusCode, want, len(body), err)
			}
			if kind := r.Header.Get("Content-Type"); want == 200 && kind != "text/html; charset=utf-8" {
				t.Errorf("%s%s is %q", url, path, kind)
			}
		}
		if !secure {
			insecure = nil
		}
		hal := browse(t, s, "?name=hal", insecure)
		hal.want("* you are hal in lobby, with 0 others")
		if state := hal.TLS(); (state != nil) != secure {
			t.Errorf("TLS %v", state)
		}
	}
	for _, part := range []string{"src=", "@import", "url(", "innerHTML"} {
		if bytes.Contains(page, []byte(part)) {
			t.Errorf("the page has %s", part)
		}
	}
}

func TestPageURL(t *testing.T) {
	for addr, want := range map[string]string{
		"0.0.0.0:8080": "https://127.0.0.1:8080", "[::]:80": "https://127.0.0.1:80", "[::1]:8080": "https://[::1]:8080", "10.0.0.1:8080": "https://10.0.0.1:8080",
	} {
		a, err := net.ResolveTCPAddr("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		if got := PageURL(a, true); got != want {
			t.Errorf("%s: %s, want %s", addr, got, want)
		}
	}
}
