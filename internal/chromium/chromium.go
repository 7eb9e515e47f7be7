// Package chromium drives a Chromium without a window, for tests of pages: by the DevTools protocol
// (https://chromedevtools.github.io/devtools-protocol), whose WebSocket is a session of this module's engine.
//
//	chromium.go   the program; tabs
//	devtools.go   the protocol: commands and their answers, events
//	tab.go        what a test does with a tab
//
// The methods end the test when something fails. They are for the goroutine of the test.
package chromium

import (
	"bufio"
	"errors"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/servercore-go/servercore/engine"
)

// Patience is how long anything may take.
const Patience = 20 * time.Second

// Browser is a Chromium with an empty profile. It is ended with the test.
type Browser struct {
	t        testing.TB
	devtools *devtools
}

// Start starts Chromium with these flags besides those that make it quiet, and fails the test if there is none.
func Start(t testing.TB, flags ...string) *Browser {
	t.Helper()
	profile, err := os.MkdirTemp("", "chromium")
	must(t, err)
	cmd := exec.Command(find(t), append([]string{
		"--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update",
		"--disable-sync", "--disable-dev-shm-usage", "--disable-extensions", "--disable-background-timer-throttling", "--disable-renderer-backgrounding",
		"--disable-backgrounding-occluded-windows", "--hide-scrollbars", "--user-data-dir=" + profile, "--remote-debugging-port=0"}, flags...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // its helpers end with it
	stderr, err := cmd.StderrPipe()
	must(t, err)
	must(t, cmd.Start())
	address, drained := make(chan string, 1), make(chan struct{})
	go func() {
		defer close(drained)
		listen(stderr, address)
	}()
	b := &Browser{t: t}
	t.Cleanup(func() {
		if b.devtools != nil {
			b.devtools.close()
		}
		end := time.AfterFunc(Patience, func() { _ = cmd.Process.Kill() })
		defer end.Stop()
		<-drained
		_ = cmd.Wait()
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		if err := os.RemoveAll(profile); err != nil {
			t.Logf("the profile of chromium stays: %v", err)
		}
	})
	select {
	case a, open := <-address:
		if !open {
			t.Fatal("chromium ended at once")
		}
		b.devtools = connect(t, a)
	case <-time.After(Patience):
		_ = cmd.Process.Kill()
		t.Fatalf("chromium does not listen within %v", Patience)
	}
	return b
}

// For returns the same browser for a subtest, which is the one that ends when something fails.
func (b *Browser) For(t testing.TB) *Browser { return &Browser{t, b.devtools} }

// find returns the path of the program.
func find(t testing.TB) string {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Fatal("there is no Chromium: install it with apt-get install chromium")
	return ""
}

// listen reads what chromium logs to its end, and sends the address of its DevTools.
func listen(stderr io.Reader, address chan<- string) {
	defer close(address)
	lines := bufio.NewScanner(stderr)
	for lines.Scan() {
		if _, a, found := strings.Cut(lines.Text(), "DevTools listening on ws://"); found {
			address <- a
		}
	}
	_, _ = io.Copy(io.Discard, stderr) // a line that is too long for the scanner
}

// connect opens the WebSocket of the DevTools at host:port/path.
func connect(t testing.TB, address string) *devtools {
	t.Helper()
	host, path, _ := strings.Cut(address, "/")
	e, err := engine.New(engine.Options{Logger: slog.New(slog.DiscardHandler)}) // decoding a screenshot takes longer than a callback should
	must(t, err)
	must(t, e.Start())
	d, err := dial(t.Context(), e, host, "/"+path)
	if err != nil {
		_ = e.Close()
		t.Fatal(err)
	}
	return d
}

// Profile is a set of tabs that share cookies and storage, and share nothing with others.
type Profile struct {
	b        *Browser
	id       string
	trusting bool
}

// Profile makes an empty one.
func (b *Browser) Profile() *Profile {
	b.t.Helper()
	var made struct{ BrowserContextID string }
	b.call("", "Target.createBrowserContext", nil, &made)
	return &Profile{b: b, id: made.BrowserContextID}
}

// TrustAll has the tabs that are opened from now on accept any certificate.
func (p *Profile) TrustAll() { p.trusting = true }

// Open opens a tab with that address, in a window of that size in pixels, and waits until it has loaded.
func (p *Profile) Open(url string, width, height int) *Tab {
	p.b.t.Helper()
	tab := p.tab()
	tab.Look(Light, width, height)
	if problem := tab.visit(url); problem != "" {
		p.b.t.Fatalf("%s: %s", url, problem)
	}
	tab.Wait("document.readyState === 'complete'")
	return tab
}

// Visit tries to open a page, and returns what Chromium says about that: the name of a network error, or "" if the page has come.
func (p *Profile) Visit(url string) (problem string) {
	p.b.t.Helper()
	return p.tab().visit(url)
}

// tab opens an empty one.
func (p *Profile) tab() *Tab {
	b := p.b
	b.t.Helper()
	var target struct{ TargetID string }
	b.call("", "Target.createTarget", params{"url": "about:blank", "browserContextId": p.id, "newWindow": true}, &target)
	var attached struct{ SessionID string }
	b.call("", "Target.attachToTarget", params{"targetId": target.TargetID, "flatten": true}, &attached)
	tab := &Tab{b: b, session: attached.SessionID}
	for _, domain := range []string{"Page", "Runtime", "Log"} {
		tab.call(domain+".enable", nil, nil)
	}
	tab.call("Emulation.setFocusEmulationEnabled", params{"enabled": true}, nil)
	if p.trusting {
		tab.call("Security.setIgnoreCertificateErrors", params{"ignore": true}, nil)
	}
	return tab
}

// call sends a command to a session, "" for the browser itself, and decodes its result.
func (b *Browser) call(session, method string, p params, result any) {
	b.t.Helper()
	if err := b.devtools.call(session, method, p, result); err != nil {
		b.t.Fatalf("%s: %v", method, err)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

var errLate = errors.New("no answer in time")
