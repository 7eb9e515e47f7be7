package engine_test

import (
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/servercore-go/servercore/engine"
	kit "github.com/servercore-go/servercore/internal/enginekit"
)

// A name in the abstract space is no path: files of that name are not touched, whichever way the listener ends. The file has
// the address "./@name".
func TestAbstractNamesAreNoPaths(t *testing.T) {
	kit.NoLeaks(t)
	dir := filepath.Dir(kit.FreeAddress(t, "unix"))
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
		kit.Must(t, make())
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
		kit.Must(t, err)
		if got := nameAt(t, name); got != "engine" {
			t.Errorf("%s: %q answers", what, got)
		}
		if other, err := startNamed(name, "other"); err == nil {
			t.Error("a name is had twice")
			_ = other.Close()
		} else {
			kit.WantError(t, "a name in use", err, syscall.EADDRINUSE)
		}
		kit.Must(t, e.Close())
		untouched("after Close")

		s := kit.Prepare(t, "unix", name, engine.Options{Loops: 1}, kit.Hooks{Recv: kit.Echo})
		kit.Must(t, s.Start())
		kit.Must(t, s.Listener.Close())
		untouched("after the listener's Close")
		kit.Must(t, s.Close())

		s = kit.Prepare(t, "unix", name, engine.Options{Loops: 1}, kit.Hooks{Recv: kit.Echo})
		_, err = s.Listen("unix", filepath.Join(dir, "none", "s"), newEcho)
		kit.Must(t, err)
		kit.WantError(t, "Start", s.Start(), syscall.ENOENT)
		untouched("after a Start that failed")

		ln, err := net.Listen("unix", name)
		kit.Must(t, err)
		s = kit.Prepare(t, "unix", "", engine.Options{Loops: 1}, kit.Hooks{Recv: kit.Echo}, engine.From(ln.(syscall.Conn)))
		kit.Must(t, s.Start())
		kit.Must(t, ln.Close())
		kit.Exchange(t, s.Client(), "handed in")
		kit.Must(t, s.Close())
		untouched("after a socket that was handed in")
		_ = os.Remove("./" + name)
	}
	e, err := startNamed("./"+name, "the file's")
	kit.Must(t, err)
	if got := nameAt(t, "./"+name); got != "the file's" {
		t.Errorf("%q answers", got)
	}
	wantFree("while the file of that name is listened on")
	kit.Must(t, e.Close())
	wantOnly(t, dir)
}
