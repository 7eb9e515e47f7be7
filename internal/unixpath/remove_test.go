package unixpath

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// folder returns a folder with a short path: those of sockets are short.
func folder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "sc")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func leaveDead(t *testing.T, path string) os.FileInfo {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	_ = l.Close()
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info
}

// T6: what is put at the path between the look and the removal comes back, whatever it is.
func TestRemoveSocketPutsBack(t *testing.T) {
	for name, put := range map[string]func(path string) error{
		"a file":   func(path string) error { return os.WriteFile(path, []byte("precious"), 0o600) },
		"a folder": func(path string) error { return os.Mkdir(path, 0o700) },
		"a full folder": func(path string) error {
			return errors.Join(os.Mkdir(path, 0o700), os.WriteFile(path+"/x", nil, 0o600))
		},
		"a symbolic link":  func(path string) error { return os.Symlink("nowhere", path) },
		"a fifo":           func(path string) error { return unix.Mkfifo(path, 0o600) },
		"another's socket": func(path string) error { leaveDead(t, path); return nil },
	} {
		dir := folder(t)
		path := filepath.Join(dir, "s")
		dead := leaveDead(t, path)
		if err := put(path + ".new"); err != nil {
			t.Fatal(name, err)
		}
		want, _ := os.Lstat(path + ".new")
		looks := 0
		err := removeSocket(path, func(now os.FileInfo) bool {
			if looks++; looks == 1 {
				if !isSame(now, dead) {
					t.Errorf("%s: the socket is not known", name)
				}
				_ = unix.Unlink(path)
				if err := os.Rename(path+".new", path); err != nil {
					t.Error(err)
				}
				return true
			}
			return isSame(now, dead)
		})
		if err != nil || looks != 2 {
			t.Errorf("%s: %v after %d looks", name, err, looks)
		}
		got, err := os.Lstat(path)
		if err != nil || !os.SameFile(got, want) {
			t.Errorf("%s is gone: %v", name, err)
		}
		if entries, _ := os.ReadDir(dir); len(entries) != 1 {
			t.Errorf("%s: %v are left", name, entries)
		}
	}
}

// If the path is had by a third by then, what was moved aside stays there, and the error names it.
func TestRemoveSocketCannotPutBack(t *testing.T) {
	path := filepath.Join(folder(t), "s")
	leaveDead(t, path)
	looks := 0
	err := removeSocket(path, func(os.FileInfo) bool {
		if looks++; looks == 1 {
			if err := errors.Join(unix.Unlink(path), os.WriteFile(path, []byte("second"), 0o600)); err != nil {
				t.Error(err)
			}
			return true
		}
		if err := os.WriteFile(path, []byte("third"), 0o600); err != nil {
			t.Error(err)
		}
		return false
	})
	if err == nil || !errors.Is(err, unix.EEXIST) {
		t.Fatalf("%v, want EEXIST", err)
	}
	_, rest, _ := strings.Cut(err.Error(), " is at ")
	aside, _, _ := strings.Cut(rest, " ")
	for at, want := range map[string]string{aside: "second", path: "third"} {
		if b, err := os.ReadFile(at); string(b) != want {
			t.Errorf("%q holds %q, %v, want %q", at, b, err, want)
		}
	}
}

func TestLinkBack(t *testing.T) {
	dir := folder(t)
	aside, path := filepath.Join(dir, "aside"), filepath.Join(dir, "s")
	if err := os.WriteFile(aside, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := linkBack(aside, path); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(aside); !errors.Is(err, os.ErrNotExist) {
		t.Error("the file has two names")
	}
	if err := os.WriteFile(aside, []byte("y"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := linkBack(aside, path); !errors.Is(err, unix.EEXIST) {
		t.Errorf("%v, want EEXIST", err)
	}
	if err := os.Mkdir(aside+".folder", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := linkBack(aside+".folder", path); err == nil {
		t.Error("a folder has replaced a file")
	}
	if err := linkBack(aside+".folder", path+".folder"); err != nil {
		t.Error(err)
	}
	if b, _ := os.ReadFile(path); string(b) != "x" {
		t.Errorf("the path was overwritten with %q", b)
	}
}
