package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/servercore-go/servercore/internal/freeport"
)

// refusing is an address that nobody listens on.
func refusing(t testing.TB) string {
	t.Helper()
	addr, free, err := freeport.Refusing()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = free() })
	return addr
}

// earlier makes files that an earlier run has left.
func earlier(t testing.TB, names ...string) (dir string, paths []string) {
	t.Helper()
	dir = t.TempDir()
	for _, name := range names {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte("earlier "+name), 0o600); err != nil {
			t.Fatal(err)
		}
		paths = append(paths, path)
	}
	return dir, paths
}

// wantOnly wants the folder to hold the files as they were, and nothing besides.
func wantOnly(t testing.TB, what, dir string, paths []string) {
	t.Helper()
	for _, path := range paths {
		if text, err := os.ReadFile(path); err != nil || string(text) != "earlier "+filepath.Base(path) {
			t.Errorf("%s: %s: %v, %.60q", what, filepath.Base(path), err, text)
		}
	}
	list, err := os.ReadDir(dir)
	if err != nil || len(list) != len(paths) {
		t.Errorf("%s: %v, the folder has %v", what, err, list)
	}
}

// A run that fails, or measures nothing, leaves earlier files as they are and no new ones.
func TestFailingRunKeepsFiles(t *testing.T) {
	dir, paths := earlier(t, "a.json", "a.hgrm", "a.html")
	files := fmt.Sprintf(" -json %s -hgrm %s -html %s", paths[0], paths[1], paths[2])
	for _, line := range []string{
		"echo" + brief + refusing(t) + files, // no connection
		"churn" + brief + refusing(t) + files,
		"search -step 100ms" + brief + refusing(t) + files,
		"fanout -timeout 100ms" + brief + echo(t, false) + files, // not a broadcast server: ends while it runs
		"echo -pid 2147483647" + brief + echo(t, false) + files,  // no such process
		"echo -size 0" + brief + echo(t, false) + files,
		"echo" + brief + echo(t, false) + files + " -html /nonexistent/x",
		"echo" + brief + echo(t, false) + files + " -html " + dir, // a folder
		"echo" + brief + echo(t, false) + files + " -html -",
	} {
		code, _, stderr := netbench(t.Context(), line)
		if code != exitFault && code != exitUsage || stderr == "" {
			t.Errorf("netbench %s: code %d, stderr %q", line, code, stderr)
		}
		wantOnly(t, line, dir, paths)
	}
	code, _, stderr := netbench(t.Context(), "echo"+brief+refusing(t)+files)
	if code != exitFault || !strings.Contains(stderr, "not written: "+strings.Join(paths, ", ")) {
		t.Errorf("code %d, %q", code, stderr)
	}
	interrupted, cancel := context.WithCancel(t.Context())
	cancel()
	code, _, stderr = netbench(interrupted, "echo"+brief+echo(t, false)+files)
	if code != exitOK || !strings.Contains(stderr, "not written: ") {
		t.Errorf("interrupted before anything was measured: code %d, %q", code, stderr)
	}
	wantOnly(t, "interrupted", dir, paths)
	if code, _, _ := netbench(t.Context(), "compare "+paths[0]+" "+paths[0]+" -html "+paths[2]); code != exitFault {
		t.Errorf("compare of what is no result: code %d", code)
	}
	wantOnly(t, "compare", dir, paths)
}

// An earlier file stays until the new one is whole; that has its mode. A link stays a link.
func TestFileIsReplaced(t *testing.T) {
	dir, paths := earlier(t, "a.json")
	link := filepath.Join(dir, "link.json")
	if err := os.Symlink("a.json", link); err != nil {
		t.Fatal(err)
	}
	f, err := newFile(link)
	if err != nil {
		t.Fatal(err)
	}
	f.text.WriteString("new")
	if text, err := os.ReadFile(link); err != nil || string(text) != "earlier a.json" {
		t.Errorf("before commit: %v, %q", err, text)
	}
	if err := f.commit(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(paths[0])
	info, _ := os.Stat(paths[0])
	if err != nil || string(text) != "new" || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %q, %v", err, text, info.Mode())
	}
	if to, err := os.Readlink(link); err != nil || to != "a.json" {
		t.Errorf("the link leads to %q, %v", to, err)
	}
	if list, _ := os.ReadDir(dir); len(list) != 2 {
		t.Errorf("left behind: %v", list)
	}
}

// A new file has the mode that the umask leaves, and is not there before commit.
func TestNewFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new.json")
	f, err := newFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("before commit: %v", err)
	}
	f.text.WriteString("text")
	if err := f.commit(); err != nil {
		t.Fatal(err)
	}
	mask := syscall.Umask(0)
	syscall.Umask(mask)
	if info, err := os.Stat(path); err != nil || info.Size() != 4 || info.Mode().Perm() != os.FileMode(0o666&^mask) {
		t.Errorf("%v, %v", err, info)
	}
}

// A commit that fails leaves the earlier file and no other.
func TestFailingCommit(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a")
	f, err := newFile(path)
	if err != nil {
		t.Fatal(err)
	}
	f.text.WriteString("text")
	if err := os.MkdirAll(filepath.Join(path, "in the way"), 0o700); err != nil { // a folder cannot be replaced by a file
		t.Fatal(err)
	}
	if err := f.commit(); err == nil {
		t.Error("no error")
	}
	if list, _ := os.ReadDir(dir); len(list) != 1 {
		t.Errorf("left behind: %v", list)
	}
}

// What is no regular file is written to, not replaced.
func TestPipeIsWrittenTo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	read := make(chan string, 1)
	go func() {
		text, err := os.ReadFile(path)
		read <- fmt.Sprintf("%s %v", text, err)
	}()
	if code, _, stderr := netbench(t.Context(), "echo -json "+path+brief+echo(t, false)); code != exitOK {
		t.Fatalf("code %d, %q", code, stderr)
	}
	if got := <-read; !strings.HasPrefix(got, "{") || !strings.HasSuffix(got, "}\n <nil>") {
		t.Errorf("%.80q", got)
	}
	if info, err := os.Lstat(path); err != nil || info.Mode().Type() != os.ModeNamedPipe {
		t.Errorf("%v, %v", err, info)
	}
	if code, _, stderr := netbench(t.Context(), "echo -json /dev/null"+brief+echo(t, false)); code != exitOK {
		t.Errorf("code %d, %q", code, stderr)
	}
}

// In a folder that takes no new file an earlier one is written to.
func TestWrittenInPlace(t *testing.T) {
	_, paths := earlier(t, "a.json")
	f, err := newFile(paths[0])
	if err != nil {
		t.Fatal(err)
	}
	f.inPlace = true // root, who may run this, can write to every folder
	f.text.WriteString("new")
	if err := f.commit(); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(paths[0]); err != nil || string(text) != "new" {
		t.Errorf("%v, %q", err, text)
	}
}
