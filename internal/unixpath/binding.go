package unixpath

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// IsAbstract reports whether a unix address is a name in Linux' abstract space, which is no file. The file of that name has the
// address "./@name".
func IsAbstract(address string) bool { return abstractNames && strings.HasPrefix(address, "@") }

// Binding is a path that a socket of this process is bound to.
type Binding struct {
	path string      // absolute: the current folder may be another one at the end
	file os.FileInfo // the socket
}

// Listen makes way for a unix socket and has listen bind the path: one call that binds the address and calls listen(2), as net.Listen
// does. The folder is locked meanwhile, so no other process that uses this package sees a socket that is bound and refuses connections. A
// folder that cannot be locked is used as it is, but nothing is removed from it.
//
// Nothing at the path is harmed but a socket of our own user that refuses connections: then the error says what is there, and
// matches EADDRINUSE. The listener leaves its path in place when it is closed; Binding.Remove removes it.
func Listen(address string, listen func() (net.Listener, error)) (net.Listener, *Binding, error) {
	path := address
	if absolute, err := filepath.Abs(address); err == nil {
		path = absolute
	}
	unlock, unlocked := lockFolder(filepath.Dir(path))
	if unlocked == nil {
		defer unlock()
	}
	if err := clearPath(path, unlocked); err != nil {
		return nil, nil, err
	}
	ln, err := listen()
	if err != nil {
		return nil, nil, err
	}
	ln.(*net.UnixListener).SetUnlinkOnClose(false)
	file, err := os.Lstat(path)
	if err != nil { // another process was quick to move it away: nothing is left to remove
		return ln, nil, nil
	}
	return ln, &Binding{path, file}, nil
}

// Bound returns the binding of a unix socket that another process has bound and handed over, nil if there is nothing at the address.
func Bound(address string) *Binding {
	path, err := filepath.Abs(address)
	if err != nil {
		return nil
	}
	file, err := os.Lstat(path)
	if err != nil {
		return nil
	}
	return &Binding{path, file}
}

// Path returns the absolute path.
func (b *Binding) Path() string { return b.path }

// Remove removes the path if it is still that of the socket. Call it while the socket is open: a process that wants the path finds it in
// use until it is gone. So this needs no lock, and waits for nobody. A nil Binding has no path.
func (b *Binding) Remove() error {
	if b == nil {
		return nil
	}
	return removeSocket(b.path, func(now os.FileInfo) bool { return isSame(now, b.file) })
}

const (
	// folderPatience bounds the wait for the folder's lock. It is held for less than 2 seconds, as a rule for a millisecond.
	folderPatience = 2 * time.Second
	folderPoll     = time.Millisecond
)

// lockFolder locks a folder against other callers, of this process too, and returns what unlocks it. The lock is flock(2) on
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

// clearPath makes way for a unix socket. A path that does not exist is free. A socket of our own user that refuses
// connections is what a dead process has left: it is removed, unless unlocked says why the folder is not locked.
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
