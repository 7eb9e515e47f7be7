package servercore_test

import (
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/servercore-go/servercore/engine"
)

// A name in the abstract space is no path: files of that name are not touched, whichever way the listener ends. The file has
// the address "./@name".
func TestAbstractNamesAreNoPaths(t *testing.T) {
	noLeaks(t)
	dir := filepath.Dir(freeAddress(t, "unix"))
	t.Chdir(dir)
	name := "@servercore-" + filepath.Base(dir)
	wantFree := func(when string) {
		t.Helper()
		if c, err := net.Dial("unix", name); err == nil {
			_ = c.Close()
			t.Errorf("%s: somebody listens still", when)
		}
	}
	for what, make := range map[string]func() error{
		"a file": func() error { return os.WriteFile(name, []byte("precious"), 0o600) },
		"a dead socket": func() error {
			leaveDead(t, filepath.Join(dir, name))
			return nil
		},
		"nothing": func() error { return nil },
	} {
		must(t, make())
		before, _ := os.Lstat("./" + name)
		untouched := func(when string) {
			t.Helper()
			wantFree(when)
			after, _ := os.Lstat("./" + name)
			if (before == nil) != (after == nil) || before != nil && !os.SameFile(before, after) {
				t.Errorf("%s, %s: the file is another one", what, when)
			}
		}
		e, err := startNamed(name, "engine")
		must(t, err)
		if got := nameAt(t, name); got != "engine" {
			t.Errorf("%s: %q answers", what, got)
		}
		if other, err := startNamed(name, "other"); err == nil {
			t.Error("a name is had twice")
			_ = other.Close()
		} else {
			wantError(t, "a name in use", err, syscall.EADDRINUSE)
		}
		must(t, e.Close())
		untouched("after Close")

		s := prepare(t, "unix", name, engine.Options{Loops: 1}, hooks{recv: echo})
		must(t, s.Start())
		must(t, s.listener.Close())
		untouched("after the listener's Close")
		must(t, s.Close())

		s = prepare(t, "unix", name, engine.Options{Loops: 1}, hooks{recv: echo})
		_, err = s.Listen("unix", filepath.Join(dir, "none", "s"), newEcho)
		must(t, err)
		wantError(t, "Start", s.Start(), syscall.ENOENT)
		untouched("after a Start that failed")

		ln, err := net.Listen("unix", name)
		must(t, err)
		s = prepare(t, "unix", "", engine.Options{Loops: 1}, hooks{recv: echo}, engine.From(ln.(syscall.Conn)))
		must(t, s.Start())
		must(t, ln.Close())
		exchange(t, s.dial(), "handed in")
		must(t, s.Close())
		untouched("after a socket that was handed in")
		_ = os.Remove("./" + name)
	}
	e, err := startNamed("./"+name, "the file's")
	must(t, err)
	if got := nameAt(t, "./"+name); got != "the file's" {
		t.Errorf("%q answers", got)
	}
	wantFree("while the file of that name is listened on")
	must(t, e.Close())
	wantOnly(t, dir)
}
