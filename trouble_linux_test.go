package servercore_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/servercore-go/servercore/engine"
	"github.com/servercore-go/servercore/session"
)

// T1: with every descriptor of the process taken, established sessions go on and newcomers are shed or wait; when
// there are descriptors again, newcomers are admitted. The limit of the whole process is lowered, so nothing runs
// beside this test.
func TestT1DescriptorsRunningOut(t *testing.T) {
	noLeaks(t)
	var before syscall.Rlimit
	must(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &before))
	s := serve(t, "tcp", engine.Options{Loops: 2, MaxSessions: -1}, hooks{recv: func(p *peer, data []byte) { _ = p.Send(data) }})
	var established []net.Conn
	for range 20 {
		c, _ := s.connect()
		established = append(established, c)
	}
	reserve, err := os.Open(os.DevNull)
	must(t, err)
	low := before
	low.Cur = uint64(openDescriptors(t) + 20)
	must(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &low))
	restore := sync.OnceFunc(func() { must(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &before)) })
	defer restore()

	var flood []net.Conn
	for range 300 { // clients and server share the descriptors, so that both sides run out
		if c, err := net.DialTimeout("tcp", s.listener.Addr().String(), time.Second); err == nil {
			flood = append(flood, c)
		}
	}
	var hoard []*os.File
	for {
		f, err := os.Open(os.DevNull)
		if err != nil {
			break
		}
		hoard = append(hoard, f)
	}
	must(t, reserve.Close()) // one descriptor for a client whose accept finds none
	if c, err := net.Dial("tcp", s.listener.Addr().String()); err == nil {
		flood = append(flood, c)
	}
	eventually(t, "accept has failed", func() bool { return s.Stats().AcceptErrors > 0 })
	for _, c := range established {
		exchange(t, c, "still here")
	}
	for _, f := range hoard {
		_ = f.Close()
	}
	for _, c := range flood {
		_ = c.Close()
	}
	restore()
	eventually(t, "a newcomer is served", func() bool {
		c, err := net.Dial("tcp", s.listener.Addr().String())
		if err != nil {
			return false
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(time.Second))
		_, _ = c.Write([]byte("new"))
		got := make([]byte, 3)
		_, err = io.ReadFull(c, got)
		return err == nil
	})
	for _, c := range established {
		exchange(t, c, "and after")
		must(t, c.Close())
	}
}

// T1: a dial that finds no descriptor is an error that says so, and later ones succeed.
func TestDialWithoutDescriptors(t *testing.T) {
	noLeaks(t)
	l := listen(t, "tcp") // nobody accepts: that would take a descriptor too
	c := dialler(t, engine.Options{Loops: 2, MaxSessions: -1}, hooks{})
	c.to(l.Addr())
	var before syscall.Rlimit
	must(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &before))
	low := before
	low.Cur = uint64(openDescriptors(t) + 20)
	must(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &low))
	var hoard []*os.File
	for {
		f, err := os.Open(os.DevNull)
		if err != nil {
			break
		}
		hoard = append(hoard, f)
	}
	restore := sync.OnceFunc(func() {
		must(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &before))
		for _, f := range hoard {
			_ = f.Close()
		}
	})
	defer restore()
	_, err := c.Dial(t.Context(), "tcp", l.Addr().String(), c.newPeer)
	wantError(t, "Dial without a descriptor for the socket", err, syscall.EMFILE)
	_ = hoard[0].Close()
	hoard = hoard[1:]
	_, err = c.Dial(t.Context(), "tcp", l.Addr().String(), c.newPeer)
	wantError(t, "Dial without a second one", err, syscall.EMFILE)
	restore()
	c.to(l.Addr())
}

// T1: a session whose reading has to be stopped while there is no descriptor left is not lost.
func TestT1PausingWithoutDescriptors(t *testing.T) {
	noLeaks(t)
	s := serve(t, "tcp", engine.Options{Loops: 2, SendBuffer: 64 << 10}, hooks{recv: echo})
	c, p := s.connect()
	var hoard []*os.File
	var before syscall.Rlimit
	must(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &before))
	low := before
	low.Cur = uint64(openDescriptors(t) + 5)
	must(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &low))
	restore := sync.OnceFunc(func() {
		must(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &before))
		for _, f := range hoard {
			_ = f.Close()
		}
	})
	defer restore()
	for {
		f, err := os.Open(os.DevNull)
		if err != nil {
			break
		}
		hoard = append(hoard, f)
	}
	data := pattern(16 << 20)
	wrote := make(chan error, 1)
	go func() {
		_, err := c.Write(data)
		wrote <- errors.Join(err, c.(*net.TCPConn).CloseWrite())
	}()
	eventually(t, "reading is paused", func() bool { return s.Stats().Total.Pauses > 0 })
	must(t, readAll(c, data))
	must(t, await(t, wrote, "the client has written"))
	await(t, p.ended, "OnDisconnected")
	wantError(t, "reason", p.Err(), session.ErrPeerClosed)
	restore()
}

// T3: urgent data cuts a read short and is itself lost; the bytes around it arrive.
func TestT3UrgentData(t *testing.T) {
	onLoops(t, func(t *testing.T, loops int) {
		s := serve(t, "tcp", engine.Options{Loops: loops}, hooks{recv: echo})
		c, p := s.connect()
		raw, err := c.(*net.TCPConn).SyscallConn()
		must(t, err)
		for range 20 {
			release := p.hold(t)
			write(t, c, []byte("before"))
			must(t, raw.Control(func(fd uintptr) { err = unix.Sendto(int(fd), []byte("!"), unix.MSG_OOB, nil) }))
			must(t, err)
			write(t, c, []byte("after"))
			release()
			expect(t, c, "beforeafter")
		}
	})
}

// T5: an engine whose loop's poller fails says so, and ends every session.
func TestT5EndsByItself(t *testing.T) {
	before := epolls(t) // the Go runtime's own is among them, see TestMain
	s := prepare(t, "tcp", "127.0.0.1:0", engine.Options{Loops: 2}, hooks{recv: echo})
	result := make(chan error, 1)
	go func() { result <- s.Run(context.Background()) }()
	eventually(t, "the engine listens", func() bool { return s.listener.Addr().String() != "127.0.0.1:0" })
	_, p := s.connect()
	_, q := s.connect()
	// The engine's epolls get the place of a file: epoll_wait on them fails from the next call on.
	null, err := os.Open(os.DevNull)
	must(t, err)
	defer null.Close()
	for fd := range epolls(t) {
		if !before[fd] {
			must(t, syscall.Dup3(int(null.Fd()), fd, syscall.O_CLOEXEC))
		}
	}
	_ = p.Post(func() {}) // wakes the loops
	_ = q.Post(func() {})
	err = await(t, result, "Run returns")
	if err == nil || errors.Is(err, engine.ErrClosed) || s.Err() == nil || errors.Is(s.Err(), engine.ErrClosed) {
		t.Errorf("Run returned %v, Err %v, want the fault", err, s.Err())
	}
	await(t, s.Done(), "Done")
	await(t, p.ended, "OnDisconnected")
	await(t, q.ended, "OnDisconnected")
}

// epolls returns the epoll descriptors of the process.
func epolls(t *testing.T) map[int]bool {
	t.Helper()
	found := make(map[int]bool)
	for fd := range 1024 {
		if name, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd)); err == nil && strings.Contains(name, "eventpoll") {
			found[fd] = true
		}
	}
	return found
}
