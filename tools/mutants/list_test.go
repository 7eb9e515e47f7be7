package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

const root = "../.."

// Each mistake can still be made: what it changes is there, once, the result compiles, and the tests that must notice exist. So a
// change to the code tells at once which mistake has to be adapted, and not only when somebody runs make mutants.
func TestMistakesCanBeMade(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("some are in files for Linux")
	}
	names := make(map[string]bool)
	packages := load(t)
	for _, m := range mutants() {
		if names[m.name] {
			t.Errorf("%q is in the list twice", m.name)
		}
		names[m.name] = true
		if err := m.testsExist(root); err != nil {
			t.Errorf("%s: %s: %v", m.file, m.name, err)
		}
		changed, err := m.mutate(root)
		if err != nil {
			t.Errorf("%s: %s: %v", m.file, m.name, err)
			continue
		}
		if err := packages.check(&m, changed); err != nil {
			t.Errorf("%s: %s: the result does not compile; adapt tools/mutants: %v", m.file, m.name, err)
		}
	}
	for name := range explained {
		if !names[name] {
			t.Errorf("explained.go explains %q, which is not in the list", name)
		}
	}
}

// Enough mistakes, and in every package.
func TestListIsLarge(t *testing.T) {
	count := make(map[string]int)
	for _, m := range mutants() {
		count[m.pkg()]++
	}
	if n := len(mutants()); n < 150 {
		t.Errorf("%d mistakes, want 150", n)
	}
	for _, pkg := range []string{"engine", "session", "internal/proxyproto", "internal/wheel", "frame", "pool", "bench", "internal/echoserver", "cluster", "cluster/internal/replica"} {
		if count[pkg] < 4 {
			t.Errorf("%d mistakes in %s, want 4 or more", count[pkg], pkg)
		}
	}
	if n, all := len(explained), len(mutants()); 20*n > all {
		t.Errorf("%d of %d mistakes are explained away, want 1 of 20 at most", n, all)
	}
}

// loaded has the packages of the repository as the compiler sees them.
type loaded struct {
	fset    *token.FileSet
	exports map[string]string               // compiled packages, by import path
	files   map[string]map[string]*ast.File // by directory and name
	paths   map[string]string               // import paths, by directory
	types   types.ImporterFrom
}

func load(t *testing.T) *loaded {
	t.Helper()
	l := &loaded{fset: token.NewFileSet(), exports: make(map[string]string), files: make(map[string]map[string]*ast.File), paths: make(map[string]string)}
	cmd := exec.Command("go", "list", "-deps", "-export", "-json=ImportPath,Export,Dir,GoFiles,Standard,Module", "./...", "./observe/...", "./cluster/...")
	cmd.Dir, cmd.Stderr = root, os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	top, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p struct {
			ImportPath, Export, Dir string
			GoFiles                 []string
			Module                  *struct{ Main bool }
		}
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		l.exports[p.ImportPath] = p.Export
		if p.Module == nil || !p.Module.Main {
			continue
		}
		dir, err := filepath.Rel(top, p.Dir)
		if err != nil {
			t.Fatal(err)
		}
		l.paths[dir], l.files[dir] = p.ImportPath, make(map[string]*ast.File)
		for _, name := range p.GoFiles {
			f, err := parser.ParseFile(l.fset, filepath.Join(p.Dir, name), nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			l.files[dir][name] = f
		}
	}
	l.types = importer.ForCompiler(l.fset, "gc", func(path string) (io.ReadCloser, error) {
		return os.Open(l.exports[path])
	}).(types.ImporterFrom)
	return l
}

// check type-checks the package of a mutant with one file changed.
func (l *loaded) check(m *mutant, changed []byte) error {
	files := l.files[m.pkg()]
	name := filepath.Base(m.file)
	if strings.HasSuffix(name, "_test.go") { // packages are loaded without their tests
		_, err := parser.ParseFile(l.fset, m.file, changed, 0)
		return err
	}
	if files[name] == nil {
		return fmt.Errorf("no such file on %s", runtime.GOOS)
	}
	f, err := parser.ParseFile(l.fset, m.file, changed, 0)
	if err != nil {
		return err
	}
	all := []*ast.File{f}
	for other, file := range files {
		if other != name {
			all = append(all, file)
		}
	}
	_, err = (&types.Config{Importer: l.types}).Check(l.paths[m.pkg()], l.fset, all, nil)
	return err
}

// A sample is as large as asked for, the same for the same seed, and another one for another seed.
func TestDraw(t *testing.T) {
	names := func(list []mutant) (all []string) {
		for _, m := range list {
			all = append(all, m.name)
		}
		return all
	}
	first, same, other := names(draw(mutants(), 12, 1)), names(draw(mutants(), 12, 1)), names(draw(mutants(), 12, 2))
	if len(first) != 12 || !slices.Equal(first, same) || slices.Equal(first, other) {
		t.Errorf("samples %v, %v and %v", first, same, other)
	}
	if n := len(draw(mutants()[:3], 12, 1)); n != 3 {
		t.Errorf("12 of 3 are %d", n)
	}
}

// What go test prints is read as what it means.
func TestJudge(t *testing.T) {
	failed := exec.Command("false").Run()
	for _, tt := range []struct {
		out     string
		err     error
		noticed bool
		by      string // or the error
	}{
		{"ok  \tx\t0.1s\n", nil, false, ""},
		{"--- FAIL: TestX (0.1s)\n    x_test.go:7: 2 | 3\nFAIL\n", failed, true, `TestX: 2 \| 3`},
		{"--- FAIL: TestX (0.1s)\n    --- FAIL: TestX/y=1 (0.1s)\n        x_test.go:7: no\nFAIL\n", failed, true, "TestX: no"},
		{"--- FAIL: TestSimulator (0.1s)\n    s_test.go:7: seed 17: 1: lost\n", failed, true, "TestSimulator, seed 17: 1: lost"},
		{"panic: test timed out after 1m0s\n", failed, true, "it never ends"},
		{"panic: oh\n\ngoroutine 1", failed, true, "panic: oh"},
		{"# p\nx.go:1:1: undefined: y\nFAIL p [build failed]\n", failed, false, "does not compile"},
		{"testing: warning: no tests to run\nok  \tx\t0.1s\n", nil, false, "no such test"},
		{"", exec.ErrNotFound, false, "not found"},
	} {
		v, err := judge(tt.out, tt.err)
		switch {
		case err != nil && (tt.by == "" || !strings.Contains(err.Error(), tt.by)):
			t.Errorf("%q: error %v, want %q", tt.out, err, tt.by)
		case err == nil && (v.noticed != tt.noticed || v.by != tt.by):
			t.Errorf("%q: noticed %t by %q, want %t by %q", tt.out, v.noticed, v.by, tt.noticed, tt.by)
		}
	}
}

// A snippet that is not there, or there twice, and a test that is not there, are told with the place to look for.
func TestMistakesThatCannotBeMade(t *testing.T) {
	for want, m := range map[string]mutant{
		"has the following 0 times": {file: "pool/pool.go", was: "there is no such line"},
		"times, want once":          {file: "pool/pool.go", was: "return"},
		"no such file":              {file: "pool/nothing.go"},
	} {
		if _, err := m.mutate(root); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "tools/mutants") {
			t.Errorf("%+v: %v, want %q", m, err, want)
		}
	}
	m := mutant{tests: "./pool TestSecondReleasePanics|TestNothing"}
	if err := m.testsExist(root); err == nil || !strings.Contains(err.Error(), "has no test TestNothing") {
		t.Errorf("%v, want that there is no test TestNothing", err)
	}
}
