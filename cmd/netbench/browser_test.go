//go:build browser

// The pages in a real browser: go test -tags browser -run '^TestPages' ./cmd/netbench. It needs Chromium, so it stands
// behind a tag; .ci/run runs it. NETBENCH_SHOTS=DIR keeps the screenshots.

package main

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"html"
	"image"
	"image/png"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// checks.html shows pages in frames of a given width, because a window of Chromium cannot be as narrow as a phone, and
// writes what is wrong with them into its own document.
//
//go:embed testdata/checks.html
var checks string

const wideScreen, phone = 1200, 390

// browse runs Chromium without a window. What it prints on stderr holds the messages of the pages' consoles.
func browse(t *testing.T, scheme, address string, args ...string) (stdout, stderr string) {
	t.Helper()
	name := ""
	for _, known := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(known); err == nil {
			name = path
			break
		}
	}
	if name == "" {
		t.Fatal("there is no Chromium: install it with apt-get install chromium")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
	defer cancel()
	prefers := map[string]string{"dark": "0", "light": "1"}[scheme]
	cmd := exec.CommandContext(ctx, name, append([]string{
		"--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
		"--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--user-data-dir=" + t.TempDir(), "--hide-scrollbars",
		"--enable-logging=stderr", "--blink-settings=preferredColorScheme=" + prefers, "--virtual-time-budget=5000",
	}, append(args, address)...)...)
	cmd.WaitDelay = 5 * time.Second
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("chromium: %v\n%s", err, &errs)
	}
	return out.String(), errs.String()
}

// console returns the lines that pages wrote to their consoles, which is where a browser complains about them.
func console(stderr string) (lines []string) {
	for line := range strings.Lines(stderr) {
		if strings.Contains(line, ":CONSOLE") {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return lines
}

// A site serves the pages, and /check, which looks at several of them. It notes what else is asked for.
type site struct {
	url   string
	mu    sync.Mutex
	other []string
}

func serve(t *testing.T, pages map[string]string) *site {
	t.Helper()
	site := &site{}
	mux := http.NewServeMux()
	mux.HandleFunc("/check", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, checks) })
	mux.HandleFunc("/page/{name}", func(w http.ResponseWriter, r *http.Request) {
		text, ok := pages[r.PathValue("name")]
		if !ok {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprint(w, text)
	})
	mux.HandleFunc("/favicon.ico", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		site.mu.Lock()
		defer site.mu.Unlock()
		site.other = append(site.other, "asked for "+r.URL.Path)
		http.NotFound(w, r)
	})
	s := httptest.NewServer(mux)
	t.Cleanup(func() { s.CloseClientConnections(); s.Close() })
	site.url = s.URL
	return site
}

// findings is what checks.html says of one page.
type findings struct {
	Page     string
	Width    int
	Dark     bool
	Drawings int // that are shown
	Labels   int // text in them
	Wrong    []string
}

// look checks the pages in one scheme and both widths.
func (s *site) look(t *testing.T, scheme string, names ...string) []findings {
	t.Helper()
	address := fmt.Sprintf("%s/check?scheme=%s&widths=%d,%d&pages=%s", s.url, scheme, wideScreen, phone, url.QueryEscape(strings.Join(names, ",")))
	dom, stderr := browse(t, scheme, address, "--window-size=1300,1000", "--dump-dom")
	_, rest, found := strings.Cut(dom, `<pre id="findings">`)
	text, _, closed := strings.Cut(rest, "</pre>")
	var list []findings
	if err := json.Unmarshal([]byte(html.UnescapeString(text)), &list); !found || !closed || err != nil {
		t.Fatalf("no findings: %v\n%s\n%s", err, dom, stderr)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if lines := append(console(stderr), s.other...); len(lines) > 0 {
		list[0].Wrong = append(list[0].Wrong, lines...)
	}
	if len(list) != 2*len(names) {
		t.Fatalf("%d findings for %d pages", len(list), len(names))
	}
	return list
}

// pagesToShow are those of a short tour and of runs that have everything a page can show.
func pagesToShow(t *testing.T) map[string]string {
	t.Helper()
	dir := t.TempDir()
	demoTime = 400 * time.Millisecond
	defer func() { demoTime = 0 }()
	good, bad := echo(t, false), echo(t, true)
	const brief = " -conns 4 -warmup 0 -duration 300ms "
	long := strings.Repeat("a-long-name-", 6) + ".json"
	pid := fmt.Sprintf(" -pid %d ", os.Getpid())
	for _, line := range []string{
		"demo -html demo.html",
		"echo" + brief + pid + "-addr " + good + " -json a.json",
		"rate -rate 2000" + brief + pid + "-addr " + good + " -json b.json -html rate.html",
		"churn" + brief + "-addr " + good + " -json " + long + " -html churn.html",
		"idle -active 1" + brief + "-addr " + good + " -html idle.html",
		"echo" + brief + "-addr " + bad + " -html errors.html",
		"search -step 200ms -warmup 0 -duration 1s -rate 500 -p99 2ms -addr " + good + " -html search.html",
		"compare a.json b.json -html compare.html",
		"compare b.json a.json a.json b.json " + long + " -html many.html",
	} {
		var words []string
		for _, w := range strings.Fields(line) {
			if strings.HasSuffix(w, ".json") || strings.HasSuffix(w, ".html") {
				w = filepath.Join(dir, w)
			}
			words = append(words, w)
		}
		if code, _, stderr := netbench(t.Context(), strings.Join(words, " ")); code != exitOK && code != exitErrors {
			t.Fatalf("netbench %s: code %d, %s", line, code, stderr)
		}
	}
	pages := map[string]string{}
	files, err := filepath.Glob(filepath.Join(dir, "*.html"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		pages[strings.TrimSuffix(filepath.Base(name), ".html")] = string(text)
	}
	return pages
}

func TestPages(t *testing.T) {
	pages := pagesToShow(t)
	site := serve(t, pages)
	var names []string
	for name := range pages {
		names = append(names, name)
	}
	for _, scheme := range []string{"light", "dark"} {
		if scheme == "dark" {
			names = []string{"demo", "compare"} // colours move nothing: these stand for all
		}
		for _, f := range site.look(t, scheme, names...) {
			if len(f.Wrong) > 0 {
				t.Errorf("%s, %d px, %s:\n  %s", f.Page, f.Width, scheme, strings.Join(f.Wrong, "\n  "))
			}
			if f.Dark != (scheme == "dark") || f.Drawings < 2 || f.Labels < 10 {
				t.Errorf("%s, %d px, %s: dark %v, %d drawings with %d labels", f.Page, f.Width, scheme, f.Dark, f.Drawings, f.Labels)
			}
		}
	}
	if dir := os.Getenv("NETBENCH_SHOTS"); dir != "" {
		for name, text := range pages {
			if err := os.WriteFile(filepath.Join(dir, name+".html"), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	light, dark := site.shoot(t, "light", "demo", "compare"), site.shoot(t, "dark", "demo", "compare")
	if light < 0.8 || dark > 0.3 {
		t.Errorf("the background has a brightness of %.2f in light and %.2f in dark", light, dark)
	}
}

// shoot takes screenshots of the tops of pages in both widths, and returns how bright their corner is, from 0 to 1.
func (s *site) shoot(t *testing.T, scheme string, names ...string) (bright float64) {
	t.Helper()
	dir := os.Getenv("NETBENCH_SHOTS")
	if dir == "" {
		dir = t.TempDir()
	}
	const height = 2000
	all := filepath.Join(t.TempDir(), "all.png")
	browse(t, scheme, fmt.Sprintf("%s/check?scheme=%s&widths=%d,%d&pages=%s", s.url, scheme, wideScreen, phone, strings.Join(names, ",")),
		fmt.Sprintf("--window-size=%d,%d", len(names)*(wideScreen+phone), height), "--screenshot="+all)
	text, err := os.ReadFile(all)
	if err != nil {
		t.Fatal(err)
	}
	picture, err := png.Decode(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	x := 0
	for _, name := range names {
		for _, width := range []int{wideScreen, phone} { // the frames stand side by side
			part := picture.(interface {
				SubImage(image.Rectangle) image.Image
			}).SubImage(image.Rect(x, 0, x+width, height))
			if x += width; part.Bounds().Dx() != width || part.Bounds().Dy() < height/2 {
				t.Fatalf("%s, %d px: the picture is %v", name, width, part.Bounds())
			}
			var b bytes.Buffer
			if err := png.Encode(&b, part); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%s-%d-%s.png", name, width, scheme)), b.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
			bright = brightness(part)
		}
	}
	return bright
}

func brightness(p image.Image) float64 {
	r, g, b, _ := p.At(p.Bounds().Min.X+3, 3).RGBA()
	return float64(r+g+b) / (3 * 0xffff)
}

// A check that cannot fail proves nothing.
func TestPagesCanFail(t *testing.T) {
	const svg = `<svg width="100" height="50" viewBox="0 0 100 50">`
	pages := map[string]string{
		"wide":     `<div style="width:1500px">x</div>`,
		"overlap":  svg + `<text x="5" y="20">one</text><text x="9" y="22">two</text></svg>`,
		"outside":  svg + `<text x="90" y="20">too long a text</text></svg>`,
		"clipped":  `<dl class="tiles"><dd style="width:20px;white-space:nowrap;overflow:hidden">12345678</dd></dl>`,
		"squeezed": `<table><td style="width:1px;overflow-wrap:anywhere">squeezed</td></table>`,
		"console":  `<script>console.error("oh no")</script>`,
		"resource": `<img src="/nowhere.png">`,
	}
	site := serve(t, pages)
	found := map[string]string{}
	var names []string
	for name := range pages {
		names = append(names, name)
	}
	slices.Sort(names) // the first gets what is not known to be of another
	for _, f := range site.look(t, "light", names...) {
		found[f.Page] += strings.Join(f.Wrong, "\n")
	}
	for name, want := range map[string]string{
		"wide": "wider than its window", "overlap": "overlap", "outside": "leaves its drawing", "clipped": "does not fit",
		"squeezed": "squeezed: ",
	} {
		if !strings.Contains(found[name], want) {
			t.Errorf("%s: found %q, not %q", name, found[name], want)
		}
	}
	for _, want := range []string{"oh no", "asked for /nowhere.png"} {
		if !strings.Contains(found[names[0]], want) {
			t.Errorf("found %q, not %q", found[names[0]], want)
		}
	}
}
