package guide_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const root = "../.."

// block is a fenced block of a page.
type block struct {
	language string
	lines    []string
}

// blocks returns the fenced blocks of a page.
func blocks(page string) (all []block) {
	var b *block
	for line := range strings.Lines(page) {
		line = strings.TrimSuffix(line, "\n")
		language, fence := strings.CutPrefix(line, "```")
		switch {
		case fence && b == nil:
			b = &block{language: language}
		case fence:
			all = append(all, *b)
			b = nil
		case b != nil:
			b.lines = append(b.lines, line)
		}
	}
	return all
}

// shows reports whether the lines are a run of the file's lines, byte for byte but for the indentation they have in common.
func shows(file string, lines []string) bool {
	source := strings.Split(file, "\n")
	for i := range max(len(source)-len(lines)+1, 0) {
		if slices.Equal(unindent(source[i:i+len(lines)]), lines) {
			return len(lines) > 0
		}
	}
	return false
}

// unindent takes away the tabs that all lines begin with, empty lines aside.
func unindent(lines []string) []string {
	least := -1
	for _, l := range lines {
		if tabs := len(l) - len(strings.TrimLeft(l, "\t")); l != "" && (least < 0 || tabs < least) {
			least = tabs
		}
	}
	out := slices.Clone(lines)
	for i, l := range out {
		if l != "" {
			out[i] = l[max(least, 0):]
		}
	}
	return out
}

// elsewhere are the files of examples of pages about another module.
var elsewhere = map[string]string{"observing.md": "observe/guide_test.go", "cluster.md": "cluster/guide_test.go"}

// Every Go block of a page is a run of lines of the page's own file of examples, or of a program under examples: a page shows only code that
// compiles and runs. So is every block of a systemd unit a run of lines of the units that echoserver comes with, and every block of a manifest on
// the page of clusters.
func TestPagesShowCodeThatRuns(t *testing.T) {
	programs := read(t, root+"/examples/*/*.go")
	units := read(t, root+"/cmd/echoserver/systemd/*")
	manifests := read(t, root+"/examples/cluster/deploy/*.yaml")
	for name, page := range pages(t) {
		sources := slices.Clone(programs)
		if name != "README.md" {
			own := strings.ReplaceAll(strings.TrimSuffix(name, ".md"), "-", "_") + "_test.go"
			if elsewhere[name] != "" {
				own = root + "/" + elsewhere[name]
			}
			sources = append(sources, read(t, own)...)
		}
		found := 0
		for _, b := range blocks(page) {
			from := sources
			switch b.language {
			case "go":
				found++
			case "ini":
				from = units
			case "yaml":
				if name != "cluster.md" {
					continue // of programs that are not ours
				}
				from = manifests
			default:
				continue
			}
			if !slices.ContainsFunc(from, func(file string) bool { return shows(file, b.lines) }) {
				t.Errorf("%s: this block is in no file that runs:\n%s", name, strings.Join(b.lines, "\n"))
			}
		}
		if name != "README.md" && found == 0 {
			t.Errorf("%s shows no code", name)
		}
	}
}

// The index names every page, and every page of the index exists.
func TestIndexNamesEveryPage(t *testing.T) {
	index := read(t, "README.md")[0]
	for name := range pages(t) {
		if name != "README.md" && !strings.Contains(index, "]("+name+")") {
			t.Errorf("README.md does not name %s", name)
		}
	}
}

var pageLink = regexp.MustCompile(`\]\(([^)#\s]+)(#[^)\s]*)?\)`)

// Links within the repository lead to files that exist.
func TestLinksLeadSomewhere(t *testing.T) {
	for _, pattern := range []string{"*.md", "docs/*.md", "docs/*/*.md", ".github/*.md", "bench/peers/*.md"} {
		files, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			for _, m := range pageLink.FindAllStringSubmatch(read(t, file)[0], -1) {
				if strings.Contains(m[1], ":") {
					continue // of the web
				}
				if _, err := os.Stat(filepath.Join(filepath.Dir(file), m[1])); err != nil {
					t.Errorf("%s: a link leads nowhere: %v", strings.TrimPrefix(file, root+"/"), err)
				}
			}
		}
	}
}

// The README shows the first server as it is, and the command for all tests.
func TestFrontPage(t *testing.T) {
	front := read(t, root+"/README.md")[0]
	program := read(t, root+"/examples/echo/main.go")[0]
	found := false
	for _, b := range blocks(front) {
		if b.language == "go" {
			found = found || b.lines[0] == "package main"
			if !shows(program, b.lines) {
				t.Errorf("this block is not in examples/echo/main.go:\n%s", strings.Join(b.lines, "\n"))
			}
		}
	}
	if !found {
		t.Error("the README shows no program")
	}
	if !strings.Contains(front, "`go test work`") {
		t.Error("the README does not give the command for all tests")
	}
}

// A check that cannot fail proves nothing.
func TestShowsCanFail(t *testing.T) {
	file := "func f() {\n\tif a {\n\t\tb()\n\t}\n\n\tc()\n}\n"
	for block, want := range map[string]bool{
		"if a {\n\tb()\n}\n\nc()": true,
		"b()":                     true,
		"b() ":                    false,
		"if a {\nb()\n}":          false,
		"if a {\n\tb()\n}\nc()":   false,
		"d()":                     false,
	} {
		if got := shows(file, strings.Split(block, "\n")); got != want {
			t.Errorf("shows %q: %v, want %v", block, got, want)
		}
	}
}

func pages(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob("*.md")
	if err != nil || len(files) < 2 {
		t.Fatalf("%d pages, error %v", len(files), err)
	}
	all := make(map[string]string)
	for _, file := range files {
		all[file] = read(t, file)[0]
	}
	return all
}

// read returns the files that a pattern names; there must be one.
func read(t *testing.T, pattern string) (contents []string) {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("no file is named %s (error %v)", pattern, err)
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		contents = append(contents, string(content))
	}
	return contents
}

var publicName = regexp.MustCompile("`(?:go doc \\./)?(engine|session|frame|pool|bench|record)\\.([A-Z]\\w*)")

// The names that pages mention exist: they are in the list of the public surface.
func TestPagesNameWhatExists(t *testing.T) {
	surface := read(t, root+"/docs/api.txt")[0]
	found := 0
	for name, page := range pages(t) {
		for _, m := range publicName.FindAllStringSubmatch(page, -1) {
			found++
			declared := regexp.MustCompile(`(?m)^` + m[1] + `: (type|func|const|var) (` + m[1] + `\.)?` + m[2] + `\b`)
			if !declared.MatchString(surface) {
				t.Errorf("%s names %s.%s, which does not exist", name, m[1], m[2])
			}
		}
	}
	if found < 20 {
		t.Errorf("only %d names were found", found)
	}
}
