package unixpath

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func listen(address string) (net.Listener, *Binding, error) {
	return Listen(address, func() (net.Listener, error) { return net.Listen("unix", address) })
}

// Listen takes the path of a dead socket. Closing the listener leaves the path, Remove removes it.
func TestListenAndRemove(t *testing.T) {
	path := filepath.Join(folder(t), "s")
	leaveDead(t, path)
	ln, binding, err := listen(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := binding.Path(); got != path {
		t.Errorf("the path is %q, want %q", got, path)
	}
	if _, _, err := listen(path); !errors.Is(err, unix.EADDRINUSE) {
		t.Errorf("a second listener: %v, want EADDRINUSE", err)
	}
	if c, err := net.Dial("unix", path); err != nil {
		t.Errorf("nobody listens: %v", err)
	} else {
		_ = c.Close()
	}
	_ = ln.Close()
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("closing the listener has removed the path: %v", err)
	}
	for range 2 {
		if err := binding.Remove(); err != nil {
			t.Error(err)
		}
		if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the path is still there: %v", err)
		}
	}
}

// Remove leaves what another process has put at the path.
func TestRemoveLeavesOthers(t *testing.T) {
	path := filepath.Join(folder(t), "s")
	ln, binding, err := listen(path)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if err := errors.Join(os.Remove(path), os.WriteFile(path, []byte("precious"), 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(binding.Remove(), (*Binding)(nil).Remove()); err != nil {
		t.Error(err)
	}
	if b, err := os.ReadFile(path); string(b) != "precious" {
		t.Errorf("the path holds %q, %v", b, err)
	}
}

// A listen that fails leaves nothing, and the folder is free for the next.
func TestListenFails(t *testing.T) {
	dir := folder(t)
	path := filepath.Join(dir, "s")
	failed := errors.New("on purpose")
	if _, binding, err := Listen(path, func() (net.Listener, error) { return nil, failed }); err != failed || binding != nil {
		t.Errorf("%v, %v, want the error of listen", binding, err)
	}
	unlock, err := lockFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	unlock()
}
