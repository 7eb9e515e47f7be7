package guide_test

import (
	"encoding/xml"
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// picture is what docs/architecture.svg names.
type picture struct {
	packages map[string][]string // for each, the packages that its data-of says import it
	files    []string
}

func readPicture(t *testing.T) picture {
	t.Helper()
	var svg struct {
		Texts []struct {
			Class string `xml:"class,attr"`
			Of    string `xml:"data-of,attr"`
			Name  string `xml:",chardata"`
		} `xml:"text"`
	}
	if err := xml.Unmarshal([]byte(read(t, root+"/docs/architecture.svg")[0]), &svg); err != nil {
		t.Fatal(err)
	}
	p := picture{packages: make(map[string][]string)}
	for _, text := range svg.Texts {
		classes := strings.Fields(text.Class)
		switch {
		case slices.Contains(classes, "package"):
			if _, twice := p.packages[text.Name]; twice {
				t.Errorf("the picture names package %s twice", text.Name)
			}
			p.packages[text.Name] = strings.Fields(text.Of)
		case slices.Contains(classes, "file"):
			p.files = append(p.files, text.Name)
		}
	}
	return p
}

// beside are the folders that the picture leaves out, with what is below them: they are not part of what a server runs.
var beside = map[string]string{
	".":                   "holds no code",
	"cmd":                 "programs",
	"examples":            "programs",
	"internal/echoserver": "a program",
	"bench":               "the load generator",
	"enginetest":          "tests",
	"trials":              "tests",
	"internal/checksum":   "a layer for tests",
	"internal/chromium":   "for tests",
	"internal/enginekit":  "for tests",
	"internal/freeport":   "for tests and measurements",
	"internal/sigstop":    "for tests",
	"internal/steady":     "for tests",
	"internal/testkit":    "for tests",
	"internal/wsconn":     "a client for tests",
}

const module = "github.com/servercore-go/servercore/"

// library returns the packages of the module that servers are made of, each with those of them that it imports, and the names in left that it
// came by. A folder with a go.mod is another module.
func library(left map[string]string) (imports map[string][]string, seen map[string]bool) {
	imports, seen = make(map[string][]string), make(map[string]bool)
	must(filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := filepath.ToSlash(value(filepath.Rel(root, file)))
		if d.IsDir() {
			_, isModule := os.Stat(filepath.Join(file, "go.mod"))
			if name != "." && (isModule == nil || strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata") {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		folder := path.Dir(name)
		for dir := folder; ; dir = path.Dir(dir) {
			if _, out := left[dir]; out && (dir != "." || folder == ".") {
				seen[dir] = true
				return nil
			}
			if dir == "." {
				break
			}
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, spec := range f.Imports {
			if name, ours := strings.CutPrefix(value(strconv.Unquote(spec.Path.Value)), module); ours {
				imports[folder] = append(imports[folder], name)
			}
		}
		imports[folder] = slices.Compact(slices.Sorted(slices.Values(imports[folder])))
		return nil
	}))
	return imports, seen
}

// importers are the packages with boxes of their own, whose imports the other boxes tell.
var importers = []string{"session", "engine", "internal/reactor"}

// differences compares the packages of the picture with those that exist and what they import.
func differences(pictured, imports map[string][]string) (found []string) {
	for _, name := range slices.Sorted(maps.Keys(pictured)) {
		if _, ok := imports[name]; !ok {
			found = append(found, fmt.Sprintf("the picture names package %s, which has no Go files or is left out", name))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(imports)) {
		of, ok := pictured[name]
		if !ok {
			found = append(found, fmt.Sprintf("the picture does not name package %s", name))
			continue
		}
		if slices.Contains(importers, name) {
			continue
		}
		for _, by := range importers {
			if says, does := slices.Contains(of, by), slices.Contains(imports[by], name); says != does {
				found = append(found, fmt.Sprintf("that %s imports %s is %v, and the picture says %v", by, name, does, says))
			}
		}
	}
	return found
}

// The picture of the architecture names every package of the library, who imports it, and nothing that does not exist.
func TestPicture(t *testing.T) {
	p := readPicture(t)
	imports, seen := library(beside)
	for _, what := range differences(p.packages, imports) {
		t.Error(what)
	}
	for name := range beside {
		if !seen[name] {
			t.Errorf("%s is to be left out of the picture, and has no Go files", name)
		}
	}
	for _, file := range p.files {
		if _, err := os.Stat(filepath.Join(root, file)); err != nil {
			t.Errorf("the picture names a file that is not there: %v", err)
		}
	}
	if len(p.files) < 3 || len(imports) < 15 {
		t.Errorf("%d files and %d packages were found", len(p.files), len(imports))
	}
}

// The test above can fail.
func TestDifferences(t *testing.T) {
	imports := map[string][]string{"session": {"pool"}, "engine": {"session", "layer"}, "pool": nil, "layer": nil, "frame": nil}
	if got := differences(map[string][]string{"session": nil, "engine": nil, "pool": {"session"}, "layer": {"engine"}, "frame": nil}, imports); len(got) > 0 {
		t.Errorf("found in a picture that is right: %q", got)
	}
	want := []string{
		"the picture names package gone, which has no Go files or is left out",
		"the picture does not name package frame",
		"that engine imports layer is true, and the picture says false",
		"that engine imports pool is false, and the picture says true",
	}
	got := differences(map[string][]string{"session": nil, "engine": nil, "pool": {"session", "engine"}, "layer": nil, "gone": nil}, imports)
	if !slices.Equal(got, want) {
		t.Errorf("found %q, want %q", got, want)
	}
}
