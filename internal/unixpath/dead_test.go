package unixpath

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// unixSocket binds a path and returns the socket, which does not listen.
func unixSocket(t *testing.T) (file *os.File, path string) {
	t.Helper()
	path = filepath.Join(folder(t), "s")
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	file = os.NewFile(uintptr(fd), path)
	t.Cleanup(func() { _ = file.Close() })
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		t.Fatal(err)
	}
	return file, path
}

func mustStay(t *testing.T, path string, err error) {
	t.Helper()
	if !errors.Is(err, unix.EADDRINUSE) {
		t.Errorf("error %v, want that the address is in use", err)
	}
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("the path is gone: %v", err)
	}
}

// The process that listens may be so busy that its queue is full. Its socket is not dead.
func TestBusySocketIsNotDead(t *testing.T) {
	file, path := unixSocket(t)
	if err := unix.Listen(int(file.Fd()), 0); err != nil {
		t.Fatal(err)
	}
	for full := false; !full; {
		c, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Close(c) })
		_ = unix.SetNonblock(c, true)
		full = unix.Connect(c, &unix.SockaddrUnix{Name: path}) == unix.EAGAIN
	}
	mustStay(t, path, clearPath(path, nil))
}

// A process that has just bound its socket, and does not listen yet, is no dead process.
func TestYoungSocketIsNotDead(t *testing.T) {
	file, path := unixSocket(t)
	listens := make(chan error, 1)
	time.AfterFunc(4*deadPoll, func() { listens <- unix.Listen(int(file.Fd()), 1) }) // between bind and listen: a moment, that is the case
	err := clearPath(path, nil)
	if err := <-listens; err != nil {
		t.Fatal(err)
	}
	mustStay(t, path, err)
}

// What a dead process has left is removed.
func TestDeadSocketIsRemoved(t *testing.T) {
	file, path := unixSocket(t)
	_ = file.Close()
	if err := clearPath(path, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the path is still there: %v", err)
	}
}

// The dead socket of another user stays. Only root can make one.
func TestSocketOfAnotherUserStays(t *testing.T) {
	if os.Geteuid() != 0 {
		return
	}
	file, path := unixSocket(t)
	_ = file.Close()
	if err := os.Chown(path, 12345, -1); err != nil {
		t.Fatal(err)
	}
	mustStay(t, path, clearPath(path, nil))
}

// A socket that has taken the number of the dead one is another one. And without the lock nothing is removed.
func TestClearPath(t *testing.T) {
	path := filepath.Join(folder(t), "s")
	first := leaveDead(t, path)
	past := time.Now().Add(-time.Hour)
	if err := os.Chtimes(path, past, past); err != nil {
		t.Fatal(err)
	}
	dead, err := findDead(path)
	if dead == nil || err != nil {
		t.Fatal(dead, err)
	}
	if !isSame(dead, first) || isStill(dead, first) || !isStill(dead, dead) {
		t.Error("a socket with another time is taken for the same")
	}
	if err := clearPath(path, unix.EACCES); !errors.Is(err, unix.EACCES) || !errors.Is(err, unix.EADDRINUSE) {
		t.Errorf("without the lock: %v, want EACCES and EADDRINUSE", err)
	}
	if err := clearPath(path, nil); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the dead socket is still there: %v", err)
	}
	if err := clearPath(path, unix.EACCES); err != nil {
		t.Errorf("a free path in a folder that cannot be locked: %v", err)
	}
}
