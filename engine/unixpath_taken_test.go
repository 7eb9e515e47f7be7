package engine_test

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/servercore-go/servercore/engine"
	kit "github.com/servercore-go/servercore/internal/enginekit"
	"github.com/servercore-go/servercore/session"
)

func init() { child("starter", starter) }

// starter starts an engine on a path, and closes it again, as often as it is told. Its sessions say its process number.
func starter() {
	var e *engine.Engine
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		verb, path, _ := strings.Cut(in.Text(), " ")
		var err error
		switch verb {
		case "start":
			e, err = startNamed(path, fmt.Sprint(os.Getpid()))
		case "close":
			err = e.Close()
		}
		switch {
		case err == nil:
			fmt.Println(os.Getpid())
		case errors.Is(err, syscall.EADDRINUSE):
			fmt.Println("in use")
		default:
			fmt.Println(err)
		}
	}
}

// startNamed starts an engine on a path whose sessions say a name. If it cannot start, it is closed.
func startNamed(path, name string) (*engine.Engine, error) {
	e, err := engine.New(engine.Options{Loops: 1, Logger: kit.Quiet})
	if err != nil {
		return nil, err
	}
	_, err = e.Listen("unix", path, session.Events{OnConnected: func(s *session.Session, _ net.Addr) {
		_ = s.Send([]byte(name))
		s.Disconnect()
	}}.Factory())
	if err == nil {
		err = e.Start()
	}
	if err != nil {
		_ = e.Close()
	}
	return e, err
}

// leaveDead leaves the path of a socket whose process has died, a minute ago.
func leaveDead(t testing.TB, path string) {
	t.Helper()
	l, err := net.Listen("unix", path)
	kit.Must(t, err)
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	kit.Must(t, l.Close())
	then := time.Now().Add(-time.Minute)
	kit.Must(t, os.Chtimes(path, then, then))
}

// nameAt returns the name that the server at the path says.
func nameAt(t testing.TB, path string) string {
	t.Helper()
	c, err := net.DialTimeout("unix", path, kit.Patience)
	kit.Must(t, err)
	defer c.Close()
	kit.Must(t, c.SetDeadline(time.Now().Add(kit.Patience)))
	b := make([]byte, 100)
	n, err := c.Read(b)
	kit.Must(t, err)
	return string(b[:n])
}

// wantOnly fails unless nothing is left in the folder of the path, but for the names given.
func wantOnly(t testing.TB, folder string, names ...string) {
	t.Helper()
	entries, err := os.ReadDir(folder)
	kit.Must(t, err)
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if fmt.Sprint(got) != fmt.Sprint(names) {
		t.Fatalf("the folder has %v, want %v", got, names)
	}
}

// T6: of several engines that start at once on the path of a dead socket, one gets it, and clients reach that one.
func TestDeadPathIsTakenOverOnce(t *testing.T) {
	kit.NoLeaks(t)
	const starts, rounds = 6, 150
	path := kit.FreeAddress(t, "unix")
	for round := range rounds {
		if round%2 == 0 { // else it is free
			leaveDead(t, path)
		}
		engines, errs := make([]*engine.Engine, starts), make([]error, starts)
		var all sync.WaitGroup
		gate := make(chan struct{})
		for i := range starts {
			all.Go(func() {
				<-gate
				engines[i], errs[i] = startNamed(path, fmt.Sprint(i))
			})
		}
		close(gate)
		all.Wait()
		winner := -1
		for i, err := range errs {
			switch {
			case err == nil && winner < 0:
				winner = i
			case err == nil:
				t.Fatalf("round %d: %d and %d have both started", round, winner, i)
			case !errors.Is(err, syscall.EADDRINUSE):
				t.Fatalf("round %d: %v, want EADDRINUSE", round, err)
			}
		}
		if winner < 0 {
			t.Fatalf("round %d: none has started: %v", round, errs)
		}
		if got := nameAt(t, path); got != fmt.Sprint(winner) {
			t.Fatalf("round %d: %s answers, %d has started", round, got, winner)
		}
		kit.Must(t, engines[winner].Close())
		wantOnly(t, filepath.Dir(path))
	}
}

// The same between processes.
func TestDeadPathIsTakenOverByOneProcess(t *testing.T) {
	const starts, rounds = 3, 100
	path := kit.FreeAddress(t, "unix")
	var children []*process
	for range starts {
		children = append(children, spawn(t, "starter", nil))
	}
	for round := range rounds {
		leaveDead(t, path)
		for _, c := range children {
			c.tell("start", path)
		}
		var winner *process
		name := ""
		for _, c := range children {
			switch answer := c.answer(); {
			case answer == "in use":
			case winner != nil:
				t.Fatalf("round %d: %s has started and another says %q", round, name, answer)
			default:
				winner, name = c, answer
			}
		}
		if winner == nil {
			t.Fatalf("round %d: none has started", round)
		}
		if got := nameAt(t, path); got != name {
			t.Fatalf("round %d: %s answers, %s has started", round, got, name)
		}
		winner.tell("close")
		if got := winner.answer(); got != name {
			t.Fatalf("round %d: close: %s", round, got)
		}
		wantOnly(t, filepath.Dir(path))
	}
}

// T6: what another program puts at the path while an engine takes it over, or gives it up, is not removed.
func TestWhatComesMeanwhileSurvives(t *testing.T) {
	kit.NoLeaks(t)
	path := kit.FreeAddress(t, "unix")
	precious := path + ".precious"
	for round := range 200 {
		leaveDead(t, path)
		kit.Must(t, os.WriteFile(precious, []byte("precious"), 0o600))
		renamed := make(chan error, 1)
		go func() {
			for range round % 50 { // at another moment each time
				_, _ = os.Lstat(path)
			}
			renamed <- os.Rename(precious, path)
		}()
		e, _ := startNamed(path, "")
		_ = e.Close()
		kit.Must(t, kit.Await(t, renamed, "the file is in place"))
		if b, err := os.ReadFile(path); err != nil || string(b) != "precious" {
			t.Fatalf("round %d: the file holds %q, %v", round, b, err)
		}
		wantOnly(t, filepath.Dir(path), filepath.Base(path))
		kit.Must(t, os.Remove(path))
	}
}

// A server of package net that binds a free path at the same moment is not taken for dead before it listens.
func TestPackageNetBindsMeanwhile(t *testing.T) {
	kit.NoLeaks(t)
	path := kit.FreeAddress(t, "unix")
	for round := range 200 {
		gate := make(chan struct{})
		bound := make(chan net.Listener, 1)
		go func() {
			<-gate
			l, _ := net.Listen("unix", path)
			bound <- l
		}()
		close(gate)
		e, err := startNamed(path, "engine")
		other := kit.Await(t, bound, "package net is done")
		switch {
		case err == nil && other == nil:
			if got := nameAt(t, path); got != "engine" {
				t.Fatalf("round %d: %q answers", round, got)
			}
		case err != nil && other != nil:
			kit.WantError(t, "Start", err, syscall.EADDRINUSE)
			c, err := net.Dial("unix", path)
			kit.Must(t, err)
			kit.Must(t, c.Close())
			kit.Must(t, other.Close())
		default:
			t.Fatalf("round %d: Start %v, package net listens: %v", round, err, other != nil)
		}
		_ = e.Close()
	}
}

// A socket that refuses connections may be about to listen: it is dead only after a while.
func TestYoungSocketMayBeAboutToListen(t *testing.T) {
	kit.NoLeaks(t)
	path := kit.FreeAddress(t, "unix")
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	kit.Must(t, err)
	defer syscall.Close(fd)
	kit.Must(t, syscall.Bind(fd, &syscall.SockaddrUnix{Name: path}))
	began := time.Now()
	e, err := startNamed(path, "engine")
	kit.Must(t, err)
	if d := time.Since(began); d < 50*time.Millisecond || d > kit.Patience {
		t.Errorf("the socket was taken for dead after %v", d)
	}
	kit.Must(t, e.Close())
}

// T6: each path that cannot be had is an error that says why, and stays.
func TestPathsThatCannotBeHad(t *testing.T) {
	kit.NoLeaks(t)
	dir := filepath.Dir(kit.FreeAddress(t, "unix"))
	in := func(name string) string { return filepath.Join(dir, name) }
	kit.Must(t, os.WriteFile(in("file"), nil, 0o600))
	kit.Must(t, os.Mkdir(in("folder"), 0o700))
	kit.Must(t, os.Symlink(in("nowhere"), in("link")))
	kit.Must(t, syscall.Mkfifo(in("fifo"), 0o600))
	leaveDead(t, in("foreign"))
	if os.Geteuid() == 0 {
		kit.Must(t, os.Chown(in("foreign"), 12345, -1))
	} else {
		kit.Must(t, os.Remove(in("foreign")))
		kit.Must(t, os.Symlink(in("nowhere"), in("foreign")))
	}
	datagrams, err := net.ListenPacket("unixgram", in("datagrams"))
	kit.Must(t, err)
	defer datagrams.Close()
	busy := in("busy")
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	kit.Must(t, err)
	defer syscall.Close(fd)
	kit.Must(t, syscall.Bind(fd, &syscall.SockaddrUnix{Name: busy}))
	kit.Must(t, syscall.Listen(fd, 0))
	waiting, err := net.Dial("unix", busy) // its queue is full
	kit.Must(t, err)
	defer waiting.Close()
	listens, err := net.Listen("unix", in("listens"))
	kit.Must(t, err)
	defer listens.Close()
	kit.Must(t, os.Symlink(in("ring"), in("ring")))
	for name, want := range map[string]struct {
		err  error
		says string
	}{
		"file":      {syscall.EADDRINUSE, "is a file, not a socket"},
		"folder":    {syscall.EADDRINUSE, "is a folder, not a socket"},
		"link":      {syscall.EADDRINUSE, "is a symbolic link, not a socket"},
		"fifo":      {syscall.EADDRINUSE, "is a special file (p---------), not a socket"},
		"foreign":   {syscall.EADDRINUSE, "it is left alone"},
		"datagrams": {syscall.EADDRINUSE, "cannot be judged dead"},
		"busy":      {syscall.EADDRINUSE, "a process listens there"},
		"listens":   {syscall.EADDRINUSE, "a process listens there"},
		"none/s":    {syscall.ENOENT, "make it first"},
		"file/s":    {syscall.ENOTDIR, "should be a folder"},
		"ring/s":    {syscall.ELOOP, "lead in a circle"},
	} {
		before, _ := os.Lstat(in(name))
		_, err := startNamed(in(name), "")
		kit.WantError(t, name, err, want.err)
		if err == nil || !strings.Contains(err.Error(), want.says) || !strings.Contains(err.Error(), in(name)) {
			t.Errorf("%s: %v, want one that names it and says %q", name, err, want.says)
		}
		if after, _ := os.Lstat(in(name)); before != nil && (after == nil || !os.SameFile(before, after)) {
			t.Errorf("%s was removed", name)
		}
	}
}

// A relative path is removed at the end wherever the process is by then, and the longest path can be bound.
func TestRelativeAndLongPaths(t *testing.T) {
	kit.NoLeaks(t)
	dir := filepath.Dir(kit.FreeAddress(t, "unix"))
	t.Chdir(dir)
	e, err := startNamed("relative", "engine")
	kit.Must(t, err)
	t.Chdir(os.TempDir())
	kit.Must(t, e.Close())
	wantOnly(t, dir)

	long := filepath.Join(dir, strings.Repeat("x", len(syscall.RawSockaddrUnix{}.Path)-len(dir)-2))
	leaveDead(t, long)
	e, err = startNamed(long, "engine")
	kit.Must(t, err)
	if got := nameAt(t, long); got != "engine" {
		t.Errorf("%q answers", got)
	}
	kit.Must(t, e.Close())
	wantOnly(t, dir)
}

// A folder that cannot be locked can be used, but no dead socket is removed from it.
func TestFolderThatIsLocked(t *testing.T) {
	kit.NoLeaks(t)
	path := kit.FreeAddress(t, "unix")
	folder, err := os.Open(filepath.Dir(path))
	kit.Must(t, err)
	defer folder.Close()
	lock := func() { kit.Must(t, syscall.Flock(int(folder.Fd()), syscall.LOCK_EX)) }
	lock()
	started := make(chan error, 1)
	var e *engine.Engine
	go func() {
		var err error
		e, err = startNamed(path, "engine")
		started <- err
	}()
	time.Sleep(20 * time.Millisecond)
	if len(started) > 0 {
		t.Error("the lock is not waited for")
	}
	kit.Must(t, syscall.Flock(int(folder.Fd()), syscall.LOCK_UN))
	kit.Must(t, kit.Await(t, started, "Start returns once the folder is free"))
	lock() // and keeps it
	began := time.Now()
	kit.Must(t, e.Close())
	if d := time.Since(began); d > 2*time.Second {
		t.Errorf("Close takes %v with the folder locked", d)
	}
	wantOnly(t, filepath.Dir(path))

	leaveDead(t, path)
	_, err = startNamed(path, "engine") // it gives up waiting
	kit.WantError(t, "Start on a dead socket in a folder that stays locked", err, syscall.EADDRINUSE, syscall.EWOULDBLOCK)
	wantOnly(t, filepath.Dir(path), filepath.Base(path))
}
