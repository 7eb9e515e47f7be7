package guide_test

import (
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// folders are the packages whose comment tells what each file is for.
var folders = []string{"session", "engine", "internal/reactor", "layer/tls", "layer/websocket", "enginetest", "ongnet"}

// fileName is the name of a Go file in a comment, its folder before it, or a pattern for several ("socket*.go").
var fileName = regexp.MustCompile(`[\w*./]*[\w*]\.go\b`)

// unnamed returns those of files that the comment of their package names neither by name nor by a pattern.
func unnamed(comment string, files []string) (missing []string) {
	names := fileName.FindAllString(comment, -1)
	for _, file := range files {
		named := func(name string) bool { ok, err := filepath.Match(name, file); return ok && err == nil }
		if !slices.ContainsFunc(names, named) {
			missing = append(missing, file)
		}
	}
	return missing
}

// absent returns the names in a comment for which there is no file, in the package's folder or, with a folder before it, in that one.
func absent(comment, folder string) (stale []string) {
	for _, name := range fileName.FindAllString(comment, -1) {
		in := filepath.Join(root, folder)
		if strings.Contains(name, "/") {
			in = root
		}
		files, err := filepath.Glob(filepath.Join(in, name))
		must(err)
		if len(files) == 0 {
			stale = append(stale, name)
		}
	}
	return stale
}

// packageComment returns the comment of the package in a folder, and its files besides tests and the one with the comment.
func packageComment(t *testing.T, folder string) (comment string, files []string) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(root, folder, "*.go"))
	must(err)
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments|parser.PackageClauseOnly)
		must(err)
		if f.Doc != nil {
			comment += f.Doc.Text()
		}
		if filepath.Base(path) != "doc.go" {
			files = append(files, filepath.Base(path))
		}
	}
	if len(files) == 0 || comment == "" {
		t.Fatalf("%s: %d files, and a comment of %d bytes", folder, len(files), len(comment))
	}
	return comment, files
}

// The comment of each package names its files: a reader who looks for something finds the file there.
func TestPackageCommentsNameTheirFiles(t *testing.T) {
	for _, folder := range folders {
		t.Run(folder, func(t *testing.T) {
			comment, files := packageComment(t, folder)
			for _, file := range unnamed(comment, files) {
				t.Errorf("the package's comment does not name %s", file)
			}
			for _, name := range absent(comment, folder) {
				t.Errorf("the package's comment names %s, and there is no such file", name)
			}
		})
	}
}

// The test above can fail.
func TestUnnamedAndAbsent(t *testing.T) {
	const comment = "send.go, socket*.go: sending. internal/reactor/conn.go has the rest, nosuch.go and engine/nosuch.go nothing."
	if got := unnamed(comment, []string{"send.go", "socket_linux.go", "resend.go", "conn.go", "send2.go"}); !slices.Equal(got, []string{"resend.go", "conn.go", "send2.go"}) {
		t.Errorf("not named: %q", got)
	}
	if got := absent(comment, "session"); !slices.Equal(got, []string{"socket*.go", "nosuch.go", "engine/nosuch.go"}) {
		t.Errorf("not there: %q", got)
	}
}
