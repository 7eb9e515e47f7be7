package unixpath

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// A process that does not lock the folder may have bound its socket and not yet called listen(2). A socket that is
	// younger than this is asked again before it is taken for dead.
	minDeadAge = 100 * time.Millisecond
	deadPoll   = 5 * time.Millisecond
)

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

// owner returns the user that a file belongs to.
func owner(info os.FileInfo) int { return int(info.Sys().(*syscall.Stat_t).Uid) }

// isSame reports whether the file that is there now is the socket that was there then, which somebody has open.
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
