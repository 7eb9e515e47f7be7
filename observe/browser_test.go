//go:build browser

// The live page in a real browser: go test -tags browser -run '^TestBrowser' ./observe. It needs Chromium, so it stands behind a tag;
// .ci/run runs it. OBSERVE_SHOTS=DIR keeps the screenshots.

package observe

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/servercore-go/servercore/engine"
	"github.com/servercore-go/servercore/internal/chromium"
)

// tile is the value of a tile of the page, as a number.
func tile(name string) string {
	return fmt.Sprintf(`parseFloat([...document.querySelectorAll(".tile")].find((t) => t.querySelector("dt").textContent === %q).querySelector("dd").textContent)`, name)
}

const stalledAlarm = `[...document.querySelectorAll("#alarms li")].some((li) => /^Loop \d has not responded for/.test(li.textContent))`

// The page shows the load, the peer that does not read, what was refused, and how a loop stalls and goes on.
func TestBrowserShowsTheEngine(t *testing.T) {
	c := gather(t)
	_ = c.dial("bye").Close()
	tab := chromium.Start(t).Profile().Open(c.web.URL+"/", 1200, 2200)
	tab.Wait(`document.querySelector("#state").textContent === "running"`)
	for range maxSessions - crowdSize - roomSize + 3 { // the last ones are refused
		c.join(c.echoes)
	}
	tab.Wait(tile("open sessions") + " >= " + fmt.Sprint(crowdSize+roomSize))
	for _, name := range []string{"received", "sent", "accepted", "refused"} {
		tab.Wait(tile(name) + " >= 0")
	}
	tab.Wait(tile("received") + " > 0 && " + tile("sent") + " > 0")
	tab.Wait(`document.querySelectorAll("#loops tbody tr").length === 2`)
	tab.Wait(`document.querySelectorAll("#listeners tbody tr").length === 2`)
	tab.Wait(fmt.Sprintf(`document.querySelector("#listeners td").textContent === "tcp://%s"`, c.addr))
	tab.Wait(`/[1-9]/.test(document.querySelector("#refused .bar b").textContent) && document.querySelector("#refused").textContent.includes("full")`)
	tab.Wait(`document.querySelector("#ended").textContent.includes("peer closed")`)
	tab.Wait(`document.querySelector("#closed").textContent.includes("closed")`)
	tab.Wait(`document.querySelectorAll("#messages path.a").length === 1 && document.querySelectorAll("#lag path.a").length === 1`)
	show(t, tab, "load")
	tab.Wait(`document.querySelector("#fattest tbody tr").cells.length > 5`)
	tab.Wait(`document.querySelector("#slowest tbody tr").cells.length > 5`)
	show(t, tab, "slow-room")

	stall(c, tab)
	show(t, tab, "stalled")
	close(c.hold)
	tab.Wait("!(" + stalledAlarm + ")")
	tab.Wait(tile("stalled loops") + " === 0")

	tab.Eval(`document.querySelector("details").open = true`, nil)
	tab.Wait(`document.querySelectorAll("#all tbody tr").length > 50`)
	tab.Wait(`document.querySelector("#slowest button") !== null`)
	tab.Eval(`{ const b = document.querySelector("#slowest button"); b.click(); window.clicked = b; }`, nil)
	tab.Wait(`document.querySelector("#notice").textContent.includes("is asked to end")`)
	tab.Wait(`document.querySelector("#closed").textContent.includes("disconnected by an operator")`)
	must(t, c.listener.Close())
	tab.Wait(fmt.Sprintf(`document.querySelector("#listeners td").textContent === "tcp://%s (closed)"`, c.addr))
	if problems := tab.Problems(); len(problems) > 0 {
		t.Errorf("the console says: %s", strings.Join(problems, "\n"))
	}
	tab.Eval("window.clicked.click()", nil) // as if the page had not known yet that it has ended
	tab.Wait(`document.querySelector("#notice").textContent.includes("has ended already")`)
}

// An operator whose token is wrong, missing or right is told so on the page.
func TestBrowserAsksForTheToken(t *testing.T) {
	r := start(t, engine.Options{}, Options{Admin: true, Token: "secret", Interval: 100 * time.Millisecond})
	r.dial("hello")
	id := r.sessions("").Sessions[0].ID
	tab := chromium.Start(t).Profile().Open(r.web.URL+"/", 1200, 900)
	tab.Wait(`document.querySelector("#state").textContent === "running" && !document.querySelector("#ask").hidden`)
	for _, try := range [][2]string{{"", "enter the token"}, {"wrong", "the token is wrong"}, {"secret", "is asked to end"}} {
		tab.Eval(fmt.Sprintf(`document.querySelector("#token").value = %q; action({id: %d}).click()`, try[0], id), nil)
		tab.Wait(fmt.Sprintf(`document.querySelector("#notice").textContent.includes(%q)`, try[1]))
		tab.Shoot(os.Getenv("OBSERVE_SHOTS"), "token-"+try[0])
	}
	tab.Wait(`document.querySelector("#closed").textContent.includes("disconnected by an operator")`)
	r.web.CloseClientConnections()
	r.web.Close()
	tab.Eval(fmt.Sprintf("action({id: %d}).click()", id), nil)
	tab.Wait(`document.querySelector("#notice").textContent.includes("the server does not answer")`)
}

// stall has a callback hold its loop, and waits until the page says so.
func stall(c *crowd, tab *chromium.Tab) {
	c.t.Helper()
	c.stall()
	tab.Wait(stalledAlarm)
	tab.Wait(tile("stalled loops") + " > 0")
}

// show looks at the page in both widths and colours: nothing may stick out.
func show(t *testing.T, tab *chromium.Tab, name string) {
	t.Helper()
	for _, size := range [][2]int{{1200, 2200}, {390, 3400}} {
		for _, scheme := range []string{chromium.Light, chromium.Dark} {
			tab.Look(scheme, size[0], size[1])
			tab.Wait(fmt.Sprintf("innerWidth === %d", size[0]))
			wide := ""
			tab.Eval(`[document.documentElement, ...document.querySelectorAll(".scroll")].filter((e) => e.clientWidth > 0 && e.scrollWidth > e.clientWidth).
				map((e) => (e.firstElementChild.id || "the page") + " has " + e.scrollWidth + " of " + e.clientWidth).join(", ")`, &wide)
			if wide != "" {
				t.Errorf("%d wide, sticks out: %s", size[0], wide)
			}
			object := false // what JavaScript makes of an element that is taken for text
			if tab.Eval(`document.body.textContent.includes("[object")`, &object); object {
				t.Error("the page has [object")
			}
			// Numbers of addresses stay whole: each has as many lines as the places to break allow.
			broken := ""
			tab.Eval(`[...document.querySelectorAll(".address")].flatMap((a) => [...a.childNodes]).filter((n) => n.nodeType === Node.TEXT_NODE).
				filter((n) => { const r = document.createRange(); r.selectNodeContents(n); return new Set([...r.getClientRects()].map((b) => b.top)).size > 1; }).
				map((n) => n.data).join(", ")`, &broken)
			if broken != "" {
				t.Errorf("%d wide, broken: %s", size[0], broken)
			}
			tab.Shoot(os.Getenv("OBSERVE_SHOTS"), fmt.Sprintf("%s-%d-%s", name, size[0], scheme))
		}
	}
	tab.Look(chromium.Light, 1200, 2200)
}
