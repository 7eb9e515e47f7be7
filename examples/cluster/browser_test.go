//go:build browser

// Two tabs on two nodes: go test -tags browser -run '^TestBrowser' ./examples/cluster. It needs Chromium, so it stands behind a tag; .ci/run
// runs it. CLUSTER_SHOTS=DIR keeps the screenshots.

package main

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/servercore-go/servercore/internal/chromium"
)

// rows are the rows of a page's log: notices, and lines with the name in front if they are of others.
const rows = `[...document.querySelectorAll("#log li")].map((row) => row.innerText.replace("\n", ": "))`

// tab is a page of the chat, of a user with a browser of its own.
type tab struct{ *chromium.Tab }

func visit(b *chromium.Browser, address, name string) tab {
	p := tab{b.Profile().Open("http://"+address, 800, 600)}
	p.online()
	p.Wait("document.activeElement === document.querySelector('#text')") // one types into it: the page asks for that, and Chromium takes a moment
	p.Type("/name " + name)
	p.Wait(fmt.Sprintf("document.querySelector('#me').textContent === %q", name))
	return p
}

func (p tab) online()         { p.Wait("document.querySelector('#status').textContent === 'connected'") }
func (p tab) sees(row string) { p.Wait(fmt.Sprintf("%s.includes(%q)", rows, row)) }

// count is how often the log has a row.
func (p tab) count(row string) (n int) {
	p.Eval(fmt.Sprintf("%s.filter((r) => r === %q).length", rows, row), &n)
	return n
}

// node is the node that the page has come to last, from 0.
func (p tab) node() (n int) {
	p.Eval(`Number([...document.querySelectorAll("#log .notice")].map((row) => row.innerText).findLast((s) => s.startsWith("this is node")).slice(12))`, &n)
	return n - 1
}

// moved waits until the page has come to a node once more, and returns that.
func (p tab) moved(times int) int {
	p.Wait(fmt.Sprintf(`%s.filter((s) => s.startsWith("this is node")).length === %d`, rows, times))
	p.online()
	return p.node()
}

// Users of three nodes talk, with browsers and with nc. A node is killed: its page comes back on another one, through the balancer, and
// goes on. A node is told to end: its page goes elsewhere before that. No line is lost, and none is there twice.
func TestBrowserOnTwoNodes(t *testing.T) {
	d := runDemo(t, "-drain", "20s")
	b := chromium.Start(t)
	anna := visit(b, d.web, "anna")
	first := anna.moved(1)
	ben, carl := visit(b, d.nodes[(first+1)%3].web, "ben"), enter(t, d.nodes[(first+2)%3].lines, "carl")
	anna.Type("hello from the first node")
	ben.sees("anna: hello from the first node")
	ben.Type("and from another one")
	anna.sees("ben: and from another one")
	carl.expect("ben: and from another one")
	carl.say("and from a terminal on a third one")
	anna.sees("carl: and from a terminal on a third one")
	ben.sees("carl: and from a terminal on a third one")
	shoot(anna, "anna")
	shoot(ben, "ben-on-another-node")

	d.signal(t, first, syscall.SIGKILL)
	second := anna.moved(2)
	ben.Type("are you still there?")
	anna.sees("ben: are you still there?")
	anna.Type("yes, on another node")
	ben.sees("anna: yes, on another node")
	carl.expect("anna: yes, on another node")
	shoot(anna, "anna-after-the-kill")

	if err := syscall.Kill(d.nodes[second].pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	third := anna.moved(3)
	if first == second || second == third || third == first {
		t.Errorf("anna was on %d, %d and %d", first, second, third)
	}
	anna.Type("and on the last one")
	if third == (first+2)%3 {
		carl.expect("anna: and on the last one")
	} else {
		ben.sees("anna: and on the last one")
	}
	anna.sees("and on the last one")
	shoot(anna, "anna-after-the-drain")
	for _, line := range []string{"hello from the first node", "ben: and from another one", "carl: and from a terminal on a third one", "ben: are you still there?",
		"yes, on another node", "and on the last one"} {
		if n := anna.count(line); n != 1 {
			t.Errorf("anna's log has %q %d times", line, n)
		}
	}

	// The same name elsewhere ends the session, and the page does not fight for it.
	other := visit(b, d.nodes[third].web, "anna")
	anna.sees("anna has connected elsewhere")
	anna.Wait("document.querySelector('#status').textContent === 'you have left'")
	shoot(anna, "anna-replaced")
	for _, problem := range append(anna.Problems(), other.Problems()...) {
		if !strings.Contains(problem, "ERR_CONNECTION") && !strings.Contains(problem, "WebSocket") { // of the kill
			t.Error(problem)
		}
	}
}

func shoot(p tab, name string) { p.Shoot(os.Getenv("CLUSTER_SHOTS"), name) }
