package chromium

import (
	"bytes"
	"image"
	"image/png"
	"os"
	"path/filepath"
	"strconv"
)

// Tab is a page.
type Tab struct {
	b       *Browser
	session string
}

// The colours that a user prefers.
const (
	Light = "light"
	Dark  = "dark"
)

func (t *Tab) call(method string, p params, result any) {
	t.b.t.Helper()
	t.b.call(t.session, method, p, result)
}

// visit goes to a page, and returns what is wrong with that, "" for nothing.
func (t *Tab) visit(url string) (problem string) {
	t.b.t.Helper()
	var gone struct{ ErrorText string }
	t.call("Page.navigate", params{"url": url}, &gone)
	return gone.ErrorText
}

// Eval evaluates an expression in the page, and waits for it if it is a promise. It decodes the value, which must be JSON, unless result is
// nil.
func (t *Tab) Eval(expression string, result any) {
	t.b.t.Helper()
	value := struct{ Value any }{result}
	got := struct {
		Result           *struct{ Value any }
		ExceptionDetails *struct {
			Text      string
			Exception struct{ Description string }
		}
	}{Result: &value}
	t.call("Runtime.evaluate", params{"expression": expression, "awaitPromise": true, "returnByValue": true}, &got)
	if e := got.ExceptionDetails; e != nil {
		t.b.t.Fatalf("%s: %s %s", expression, e.Text, e.Exception.Description)
	}
}

// Wait waits until a condition holds in the page.
func (t *Tab) Wait(condition string) {
	t.b.t.Helper()
	held := false
	t.Eval(`new Promise((done) => {
		const began = performance.now();
		const look = () => {
			let held = false;
			try { held = !!(`+condition+`); } catch { /* not yet */ }
			if (held || performance.now() - began > `+strconv.FormatInt((Patience-Patience/10).Milliseconds(), 10)+`) done(held);
			else setTimeout(look, 10);
		};
		look();
	})`, &held)
	if !held {
		text := ""
		t.Eval("document.body.innerText", &text)
		t.b.t.Fatalf("not in time: %s. The page shows:\n%s", condition, text)
	}
}

// Type types text into what has the focus, and Enter.
func (t *Tab) Type(text string) {
	t.b.t.Helper()
	t.call("Input.insertText", params{"text": text}, nil)
	for _, kind := range []string{"keyDown", "keyUp"} {
		p := params{"type": kind, "key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13}
		if kind == "keyDown" {
			p["text"] = "\r"
		}
		t.call("Input.dispatchKeyEvent", p, nil)
	}
}

// Look sets the colours that the user prefers and the size of the window, in pixels. A window below 600 is a phone's.
func (t *Tab) Look(scheme string, width, height int) {
	t.b.t.Helper()
	t.call("Emulation.setEmulatedMedia", params{"features": []params{{"name": "prefers-color-scheme", "value": scheme}}}, nil)
	t.call("Emulation.setDeviceMetricsOverride", params{"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}, nil)
}

// Shoot returns a picture of what the window shows, and writes it to name.png in the folder, unless that is "".
func (t *Tab) Shoot(folder, name string) image.Image {
	t.b.t.Helper()
	t.call("Page.bringToFront", nil, nil)
	var shot struct{ Data []byte } // JSON has it in base64
	t.call("Page.captureScreenshot", params{"format": "png"}, &shot)
	picture, err := png.Decode(bytes.NewReader(shot.Data))
	must(t.b.t, err)
	if folder != "" {
		must(t.b.t, os.WriteFile(filepath.Join(folder, name+".png"), shot.Data, 0o644))
	}
	return picture
}

// Problems returns what the console and the log of the page have said since the last call: errors, warnings, exceptions; and its dialogs, which
// are accepted at once.
func (t *Tab) Problems() []string {
	d := t.b.devtools
	d.mu.Lock()
	defer d.mu.Unlock()
	problems := d.problems[t.session]
	delete(d.problems, t.session)
	return problems
}
