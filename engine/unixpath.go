package engine

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// The path of a unix socket outlives the process that bound it. Start takes over the path of a dead socket, and the end
// removes the path of our own. Between a look at a path and its removal another process may put something else there. Two
// things guard against that: engines lock the folder while they look, remove and bind, and a path is moved aside, in one
// step, and looked at again before it is removed. docs/decisions/0002 weighs the ways.

// isAbstract reports whether a unix address is a name in Linux' abstract space, which is no file. The file of that name has the
// address "./@name".
func isAbstract(address string) bool { return abstractNames && strings.HasPrefix(address, "@") }

const (
	// folderPatience bounds the wait for the folder's lock. An engine holds it for less than 2 seconds, as a rule for a millisecond.
	folderPatience = 2 * time.Second
	folderPoll     = time.Millisecond

	// A process that does not lock the folder may have bound its socket and not yet called listen(2). A socket that is
	// younger than this is asked again before it is taken for dead.
	minDeadAge = 100 * time.Millisecond
	deadPoll   = 5 * time.Millisecond
)

// lockFolder locks a folder against other engines, of this process too, and returns what unlocks it. The lock is flock(2) on
// the folder: it leaves no file behind, and ends with the process.
func lockFolder(path string) (unlock func(), err error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("open", err)
	}
	for began := time.Now(); ; {
		switch err = unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); {
		case err == nil:
			return func() {
				_ = unix.Flock(fd, unix.LOCK_UN) // a child that was just forked may hold the descriptor until it calls exec
				_ = unix.Close(fd)
			}, nil
		case err == unix.EINTR:
		case err == unix.EWOULDBLOCK && time.Since(began) < folderPatience:
			time.Sleep(folderPoll)
		default:
			_ = unix.Close(fd)
			return nil, os.NewSyscallError("flock", err)
		}
	}
}

// listenUnix binds a path under its folder's lock, and has listen call listen(2) before the lock is free again: nobody sees a
// socket of ours that is bound and refuses connections. A folder that cannot be locked is used as it is, but nothing
// is removed from it.
func (l *Listener) listenUnix(listen func() (net.Listener, error)) (net.Listener, error) {
	l.path = l.address
	if absolute, err := filepath.Abs(l.address); err == nil {
		l.path = absolute // the current folder may be another one at the end
	}
	unlock, unlocked := lockFolder(filepath.Dir(l.path))
	if unlocked == nil {
		defer unlock()
	}
	if err := clearPath(l.path, unlocked); err != nil {
		return nil, err
	}
	ln, err := listen()
	if err != nil {
		return nil, err
	}
	ln.(*net.UnixListener).SetUnlinkOnClose(false)
	l.file, _ = os.Lstat(l.path)
	return ln, nil
}

// clearPath makes way for a unix socket. A path that does not exist is free. A socket of our own user that refuses
// connections is what a process that died has left: it is removed, unless unlocked says why the folder is not locked.
// Anything else stays as it is, and the error matches EADDRINUSE.
func clearPath(path string, unlocked error) error {
	dead, err := findDead(path)
	if dead == nil || err != nil {
		return err
	}
	if unlocked != nil {
		return fmt.Errorf("%w: the path is a socket that a dead process left, and its folder cannot be locked to replace it safely (%w); "+
			"remove the path", unix.EADDRINUSE, unlocked)
	}
	return removeSocket(path, func(now os.FileInfo) bool { return isStill(now, dead) })
}

// findDead returns the dead socket of ours that is at the path, nil if there is nothing, or why the path cannot be had.
func findDead(path string) (os.FileInfo, error) {
	for began := time.Now(); ; time.Sleep(deadPoll) {
		info, err := os.Lstat(path)
		switch {
		case errors.Is(err, os.ErrNotExist):
			return nil, nil
		case err != nil:
			return nil, err
		case info.Mode().Type() != os.ModeSocket:
			return nil, fmt.Errorf("%w: the path exists and is %s, not a socket; it is left alone", unix.EADDRINUSE, describe(info.Mode()))
		}
		if uid, ours := owner(info), os.Geteuid(); uid != ours {
			return nil, fmt.Errorf("%w: the path is a socket of user %d, not of ours (%d); it is left alone", unix.EADDRINUSE, uid, ours)
		}
		conn, err := net.DialTimeout("unix", path, time.Second)
		switch {
		case err == nil:
			_ = conn.Close()
			return nil, fmt.Errorf("%w: a process listens there", unix.EADDRINUSE)
		case errors.Is(err, unix.EAGAIN): // its queue is full
			return nil, fmt.Errorf("%w: a process listens there, and is busy", unix.EADDRINUSE)
		case errors.Is(err, os.ErrNotExist):
			return nil, nil
		case !errors.Is(err, unix.ECONNREFUSED):
			return nil, fmt.Errorf("%w: the path is a socket that cannot be judged dead (%w); it is left alone", unix.EADDRINUSE, err)
		case time.Since(info.ModTime()) >= minDeadAge, time.Since(began) >= minDeadAge:
			return info, nil
		}
	}
}

func isSame(now, then os.FileInfo) bool {
	return now.Mode().Type() == os.ModeSocket && os.SameFile(now, then)
}

// isStill is isSame for a socket that nobody has open: the system may give the number of a file that is gone to the next one.
func isStill(now, then os.FileInfo) bool {
	return isSame(now, then) && now.ModTime().Equal(then.ModTime())
}

func describe(m os.FileMode) string {
	switch {
	case m.IsRegular():
		return "a file"
	case m.IsDir():
		return "a folder"
	case m&os.ModeSymlink != 0:
		return "a symbolic link"
	}
	return "a special file (" + m.Type().String() + ")"
}

// removeSocket removes a path if what is there is the socket that is asked for. What turns out to be something else after it
// was moved aside is put back. It is no error if the path does not exist, or is something else from the start.
func removeSocket(path string, isIt func(os.FileInfo) bool) error {
	if now, err := os.Lstat(path); err != nil || !isIt(now) {
		return nil
	}
	aside := fmt.Sprintf("%s.%x", path, rand.Uint64())
	if err := unix.Rename(path, aside); err != nil {
		if err == unix.ENOENT {
			return nil
		}
		return &os.LinkError{Op: "rename", Old: path, New: aside, Err: err}
	}
	now, err := os.Lstat(aside)
	if err == nil && isIt(now) {
		return os.NewSyscallError("unlink", unix.Unlink(aside))
	}
	if err := putBack(aside, path); err != nil {
		return fmt.Errorf("the path was changed meanwhile by another process, whose file is at %s now: %w", aside, err)
	}
	return nil
}

// linkBack moves a file to a path that must not exist, in a way that every system has: by a second name. A folder can have
// none, but replaces nothing except an empty folder.
func linkBack(aside, path string) error {
	if info, err := os.Lstat(aside); err == nil && info.IsDir() {
		return os.NewSyscallError("rename", unix.Rename(aside, path))
	}
	if err := unix.Linkat(unix.AT_FDCWD, aside, unix.AT_FDCWD, path, 0); err != nil {
		return os.NewSyscallError("link", err)
	}
	return os.NewSyscallError("unlink", unix.Unlink(aside))
}

// removePath removes the path of our own socket if it is still there. It is called while the socket is open: an engine that
// wants the path finds it in use until it is gone, so this needs no lock, and waits for nobody.
func (l *Listener) removePath() {
	if l.file == nil {
		return
	}
	own := l.file
	l.file = nil
	if err := removeSocket(l.path, func(now os.FileInfo) bool { return isSame(now, own) }); err != nil {
		l.engine.log.error("the path of a unix socket could not be removed", err, "listener", l.path)
	}
}
