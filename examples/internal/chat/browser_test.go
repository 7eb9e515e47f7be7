//go:build browser

// The page in a real browser: go test -tags browser -run '^TestBrowser' ./examples/internal/chat. It needs Chromium and the OpenBSD netcat,
// so it stands behind a tag; .ci/run runs it. CHAT_SHOTS=DIR keeps the screenshots.

package chat

import (
	"bufio"
	"context"
	"fmt"
	"image"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/servercore-go/servercore/internal/chromium"
	"github.com/servercore-go/servercore/session"
)

const wideScreen, phone = 1200, 390 // pixels

// tab is a page of the chat.
type tab struct{ *chromium.Tab }

// visit opens the page in a browser of its own, as that user in that room.
func visit(b *chromium.Browser, url, name string) tab {
	p := tab{b.Profile().Open(url, wideScreen, 800)}
	p.online()
	p.focused()
	p.Type("/name " + name)
	p.Wait(fmt.Sprintf("document.querySelector('#me').textContent === %q", name))
	return p
}

func (p tab) online() { p.Wait("document.querySelector('#status').textContent === 'connected'") }

// focused waits until one types into the page's text: it asks for that itself, and Chromium takes a moment.
func (p tab) focused() { p.Wait("document.activeElement === document.querySelector('#text')") }

func (p tab) sees(row string) { p.Wait(fmt.Sprintf("%s.includes(%q)", rows, row)) }

// rows are the rows of the log: notices, and lines with the name in front if they are of others.
const rows = `[...document.querySelectorAll("#log li")].map((row) => row.innerText.replace("\n", ": "))`

// lines returns what was said, without the notices.
func (p tab) lines() (all []string) {
	p.Eval(`[...document.querySelectorAll("#log .line")].map((row) => row.innerText.replace("\n", ": "))`, &all)
	return all
}

// netcat is a user of nc.
type netcat struct {
	t     *testing.T
	stdin io.Writer
	lines chan string
}

func startNetcat(t *testing.T, a net.Addr) *netcat {
	t.Helper()
	host, port, err := net.SplitHostPort(a.String())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, "nc", host, port)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	n := &netcat{t, stdin, make(chan string, 1000)}
	read := make(chan struct{})
	go func() {
		defer close(read)
		for lines := bufio.NewScanner(stdout); lines.Scan(); {
			n.lines <- lines.Text()
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-read
		_ = cmd.Wait()
	})
	return n
}

func (n *netcat) say(line string) {
	n.t.Helper()
	if _, err := io.WriteString(n.stdin, line+"\n"); err != nil {
		n.t.Fatal(err)
	}
}

// want waits for a line; others may come before it.
func (n *netcat) want(line string) {
	n.t.Helper()
	for late := time.After(chromium.Patience); ; {
		select {
		case got := <-n.lines:
			if got == line {
				return
			}
		case <-late:
			n.t.Fatalf("nc does not get %q", line)
		}
	}
}

// restart ends a server and starts one with the same addresses, as if the program was started again. Between the two it waits until a tab
// has noticed.
func restart(t *testing.T, s *Server, secure bool, p tab) *Server {
	t.Helper()
	lines, web := s.Lines.Addr().String(), s.Web.Addr().String()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	<-s.Done()
	p.Wait("document.querySelector('#status').textContent.startsWith('reconnecting')")
	s, err := New(Options{Lines: lines, Web: web, SelfSigned: secure})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func equal(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("%s: the log has\n  %s\nwant\n  %s", what, strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

// TestBrowser has one Chromium for all.
func TestBrowser(t *testing.T) {
	b := chromium.Start(t)
	for name, f := range map[string]func(*testing.T, *chromium.Browser){"talks": testTalks, "TLS": testTLS, "looks": testLooks} {
		t.Run(name, func(t *testing.T) { f(t, b.For(t)) })
	}
}

// Two tabs and nc talk. The server is restarted, and connections are lost: each page comes back by itself, and has each line once.
func testTalks(t *testing.T, b *chromium.Browser) {
	s := start(t, fixed(t), false)
	url := PageURL(s.Web.Addr(), false)
	anna, ben := visit(b, url, "anna"), visit(b, url, "ben")
	anna.Type("hello, ben")
	ben.sees("anna: hello, ben")
	ben.Type("hi, <b>anna</b> & all")
	anna.sees("ben: hi, <b>anna</b> & all")
	nc := startNetcat(t, s.Lines.Addr())
	nc.say("/name carl")
	nc.say("greetings from a terminal")
	anna.sees("carl: greetings from a terminal")
	ben.sees("carl: greetings from a terminal")
	anna.Type("welcome, carl \U0001f44b")
	nc.want("anna: welcome, carl \U0001f44b")
	before := []string{"hello, ben", "ben: hi, <b>anna</b> & all", "carl: greetings from a terminal", "welcome, carl \U0001f44b"}
	anna.sees("welcome, carl \U0001f44b") // her own line comes back too, no sooner than to others
	equal(t, "anna", anna.lines(), before...)

	// Connections are lost, the server knows the history.
	for h := range s.Sessions() {
		if u := h.(*User); u.web {
			u.DisconnectWith(&session.CloseError{Code: 1012, Reason: "the way was lost"})
		}
	}
	nc.say("while they were away")
	for _, p := range []tab{anna, ben} {
		p.sees("carl: while they were away")
		p.online()
	}
	before = append(before, "carl: while they were away")
	equal(t, "anna, after a lost connection", anna.lines(), before...)

	// The server is restarted, its history is gone.
	for range 2 {
		s = restart(t, s, false, anna)
		anna.online()
		ben.online()
	}
	anna.Type("still here?")
	anna.sees("still here?")
	ben.sees("anna: still here?")
	equal(t, "anna, after a restart", anna.lines(), append(before, "still here?")...)

	// Who comes now gets the history of the server; another room begins empty.
	dora := visit(b, url+"#lobby", "dora")
	dora.sees("anna: still here?")
	equal(t, "dora", dora.lines(), "anna: still here?")
	dora.Type("/join kitchen")
	dora.Wait("location.hash === '#kitchen'")
	equal(t, "dora, in the kitchen", dora.lines())
	dora.Type("/quit")
	dora.Wait("document.querySelector('#status').textContent === 'you have left'")
	for name, p := range map[string]tab{"anna": anna, "ben": ben, "dora": dora} {
		for _, problem := range p.Problems() {
			if !strings.Contains(problem, "ERR_CONNECTION_REFUSED") { // of the restarts
				t.Errorf("%s: %s", name, problem)
			}
		}
	}
}

// With a certificate that nobody has signed, the page is refused until the user trusts it. Then it talks by wss.
func testTLS(t *testing.T, b *chromium.Browser) {
	s := start(t, fixed(t), true)
	url := PageURL(s.Web.Addr(), true)
	if problem := b.Profile().Visit(url); !strings.Contains(problem, "ERR_CERT_AUTHORITY_INVALID") {
		t.Errorf("without trust: %q", problem)
	}
	profile := b.Profile()
	profile.TrustAll()
	anna := tab{profile.Open(url, wideScreen, 800)}
	anna.online()
	anna.focused()
	anna.Type("/name anna")
	nc := startNetcat(t, s.Lines.Addr())
	nc.say("/name carl")
	anna.Wait(rows + ".some((row) => row.endsWith('is now carl'))")
	anna.Type("over wss")
	nc.want("anna: over wss")
	anna.sees("over wss")
	var socketURL string
	anna.Eval("socket.url", &socketURL)
	if !strings.HasPrefix(socketURL, "wss://127.0.0.1:") {
		t.Errorf("the page talks to %s", socketURL)
	}
	restart(t, s, true, anna) // with another certificate
	anna.online()
	equal(t, "anna, after a restart", anna.lines(), "over wss")
	shots(t, anna, "wss")
}

// How it looks, on a wide screen and on a phone, in light and in dark.
func testLooks(t *testing.T, b *chromium.Browser) {
	s := start(t, fixed(t), false)
	url := PageURL(s.Web.Addr(), false)
	anna := visit(b, url, "anna")
	said := []string{"Welcome! This is the lobby; /join ROOM goes elsewhere.", "Does anybody see this on a phone?",
		"Yes. A long line is wrapped where there is room, and what does not fit, such as " + strings.Repeat("loooong", 12) + ", is broken.", "Grüße aus Köln, привет из Киева"}
	for i, name := range []string{"ben", "carl", "a_quite_long_name_20"} {
		c := browse(t, s, "?name="+name, nil)
		c.say(said[i])
		anna.sees(name + ": " + said[i])
	}
	anna.Type(said[3])
	anna.sees(said[3])
	shots(t, anna, "chat")
	var wrong []string
	for _, width := range []int{wideScreen, phone} {
		anna.Look(chromium.Light, width, 800)
		anna.Eval(`[...document.querySelectorAll("body *")].filter((e) => e.getBoundingClientRect().right > innerWidth + 1).map((e) => e.tagName)
			.concat(document.documentElement.scrollWidth > innerWidth ? ["page"] : [], document.documentElement.scrollHeight > innerHeight ? ["height"] : [])`, &wrong)
		if len(wrong) > 0 {
			t.Errorf("%d px: these do not fit: %v", width, wrong)
		}
	}
	// The history of a full room is in view at its end, and the row that is typed stays.
	for i := range historyLines {
		anna.Type(fmt.Sprint("line ", i))
	}
	anna.sees(fmt.Sprint("line ", historyLines-1))
	anna.Wait("log.scrollHeight - log.scrollTop - log.clientHeight < 2 && log.scrollHeight > log.clientHeight")
	if problems := anna.Problems(); len(problems) > 0 {
		t.Errorf("the console says: %s", strings.Join(problems, "\n"))
	}
}

// shots takes a tab's pictures, and checks that the colours follow the user's.
func shots(t *testing.T, p tab, name string) {
	t.Helper()
	for _, width := range []int{wideScreen, phone} {
		for scheme, dark := range map[string]bool{chromium.Light: false, chromium.Dark: true} {
			p.Look(scheme, width, 800)
			p.Wait(fmt.Sprintf("innerWidth === %d", width))
			picture := p.Shoot(os.Getenv("CHAT_SHOTS"), fmt.Sprintf("%s-%d-%s", name, width, scheme))
			if size := picture.Bounds().Size(); size != image.Pt(width, 800) {
				t.Errorf("%d px, %s: the picture has %v", width, scheme, size)
			}
			if r, g, b, _ := picture.At(2, 400).RGBA(); (r+g+b)/3 < 0x4000 != dark || (r+g+b)/3 > 0xc000 == dark {
				t.Errorf("%d px, %s: the background has the colours %#x %#x %#x", width, scheme, r, g, b)
			}
		}
	}
}
