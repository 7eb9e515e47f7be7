package engine

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/servercore-go/servercore/internal/asynclog"
	"github.com/servercore-go/servercore/internal/reactor"
	"github.com/servercore-go/servercore/session"
)

// faults answers calls of accept with errors, as long as there are some.
type faults struct {
	mu    sync.Mutex
	left  []error
	calls int
}

func (f *faults) accept(listener int) (int, unix.Sockaddr, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls++
	if len(f.left) > 0 {
		err := f.left[0]
		f.left = f.left[1:]
		return -1, nil, err
	}
	return reactor.Accept(listener)
}

func (f *faults) set(n int, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.left, f.calls = nil, 0
	for range n {
		f.left = append(f.left, err)
	}
}

func (f *faults) called() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls
}

// What accept says of a connection that is gone is no trouble of the listener: the next one is taken in the same turn. If it never
// ends, it is.
func TestAcceptPassesOverTheBroken(t *testing.T) {
	l := bound(t, "tcp", "127.0.0.1:0")
	f := new(faults)
	l.engine.acceptSocket = f.accept
	for _, err := range []error{unix.ECONNABORTED, unix.EINTR} {
		f.set(maxBroken-1, err)
		client := dial(t, l)
		n, got := l.tryAccept()
		if got != nil {
			t.Fatalf("after %d times %v: %v", maxBroken-1, err, got)
		}
		if n.remote.String() != client.LocalAddr().String() || n.local.String() != client.RemoteAddr().String() {
			t.Errorf("the connection is %v to %v", n.remote, n.local)
		}
		_ = unix.Close(n.fd)
		f.set(10*maxBroken, err)
		if _, got = l.tryAccept(); !errors.Is(got, err) || f.called() != maxBroken {
			t.Errorf("%v after %d calls, want %v after %d", got, f.called(), err, maxBroken)
		}
	}
	for _, err := range []error{unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM, unix.EPERM, unix.EPROTO, unix.ENETDOWN} {
		f.set(1, err)
		if _, got := l.tryAccept(); !errors.Is(got, err) || f.called() != 1 {
			t.Errorf("%v after %d calls, want %v after one", got, f.called(), err)
		}
	}
	f.set(1, unix.EAGAIN)
	if _, got := l.tryAccept(); got != unix.EAGAIN {
		t.Errorf("%v, want EAGAIN", got)
	}
}

// A connection of which the system knows no address, as the BSDs say of one that was reset, is closed, and the next one is taken.
func TestAcceptPassesOverTheNameless(t *testing.T) {
	l := bound(t, "tcp", "127.0.0.1:0")
	nameless := true
	l.engine.acceptSocket = func(listener int) (int, unix.Sockaddr, error) {
		fd, sa, err := reactor.Accept(listener)
		if nameless {
			sa = nil
		}
		nameless = false
		return fd, sa, err
	}
	first, second := dial(t, l), dial(t, l)
	n, err := l.tryAccept()
	if err != nil || n.remote.String() != second.LocalAddr().String() {
		t.Fatalf("%v, %v, want the second", n.remote, err)
	}
	_ = unix.Close(n.fd)
	if err := endOf(t, first); err != io.EOF {
		t.Errorf("the first one reads %v, want the end", err)
	}
}

// Trouble is waited out for 5 ms, doubling to 100 ms. Out of descriptors, a connection that waits is shed at once instead.
func TestAcceptPauses(t *testing.T) {
	e, l, _ := scripted(t)
	// A Trace is told under the listener's lock, and may look at the engine.
	traced := 0
	e.options.Trace = &Trace{Refuse: func(r TraceRefuse) {
		if traced++; e.Stats().Refused.Descriptors != uint64(traced) || r.Cause != "descriptors" || l.acceptMu.TryLock() {
			t.Errorf("refusal %d: %+v, the counts are %+v", traced, r, e.Stats().Refused)
		}
		for range e.SessionStats() {
			t.Error("a session is open")
		}
	}}
	for _, tt := range [][2]time.Duration{{0, 5}, {1, 5}, {5, 10}, {40, 80}, {80, 100}, {100, 100}} {
		for _, fault := range []error{unix.EPERM, unix.EMFILE} { // nobody waits
			if got := e.acceptFailed(l, fault, tt[0]*time.Millisecond); got != tt[1]*time.Millisecond {
				t.Errorf("%v after a pause of %v ms: %v, want %v ms", fault, int(tt[0]), got, int(tt[1]))
			}
		}
	}
	for i, fault := range []error{unix.EMFILE, unix.ENFILE, os.NewSyscallError("accept", unix.EMFILE)} {
		e.spare.Close()
		e.spare.Open = nil
		if err := e.spare.Keep(); err != nil {
			t.Fatal(err)
		}
		missing := 1
		e.spare.Open = func() (int, error) {
			if missing--; missing >= 0 {
				return -1, fault
			}
			return openFile()
		}
		client := dial(t, l)
		if pause := e.acceptFailed(l, fault, time.Second); pause != 0 || e.refused[refusedDescriptors].Load() != uint64(i+1) {
			t.Errorf("%v: a pause of %v, %d are shed", fault, pause, e.refused[refusedDescriptors].Load())
		}
		if err := endOf(t, client); !errors.Is(err, unix.ECONNRESET) {
			t.Errorf("%v: the client reads %v", fault, err)
		}
	}
	if traced != 3 {
		t.Errorf("%d refusals are told, want 3", traced)
	}
}

// T1: whatever accept returns, established sessions go on, the trouble is counted and logged, nothing spins, and connections are
// served when it is over.
func TestAcceptErrors(t *testing.T) {
	for _, fault := range []error{unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM, unix.EPERM, unix.EPROTO, unix.ENETDOWN,
		unix.ECONNABORTED, unix.EINVAL} {
		t.Run(unix.ErrnoName(fault.(unix.Errno)), func(t *testing.T) {
			log := new(lockedLog)
			e, err := New(Options{Loops: 1, Logger: slog.New(slog.NewTextHandler(log, nil))})
			if err != nil {
				t.Fatal(err)
			}
			f := new(faults)
			e.acceptSocket = f.accept
			l, err := e.Listen("tcp", "127.0.0.1:0", func() session.Handler { return &plain{connected: make(chan struct{})} })
			if err != nil {
				t.Fatal(err)
			}
			if err := e.Start(); err != nil {
				t.Fatal(err)
			}
			defer e.Close()
			established := dial(t, l)
			exchange(t, established, 1)

			f.set(1<<20, fault)
			waiting := dial(t, l)
			for deadline := time.Now().Add(5 * time.Second); e.acceptErrors.Load() < 3; time.Sleep(time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatalf("%d errors are counted", e.acceptErrors.Load())
				}
			}
			exchange(t, established, 3)
			before, began := f.called(), time.Now()
			time.Sleep(200 * time.Millisecond)
			// A try each 100 ms, each of two calls if there is a spare to lend, or of as many as there may be broken ones.
			tries := 2 + int(time.Since(began)/maxAcceptPause)*4
			if n := f.called() - before; n > tries*max(2, maxBroken) || fault != unix.ECONNABORTED && n > tries*2+10 {
				t.Errorf("%d calls of accept within %v", n, time.Since(began))
			}
			logged(t, e)
			if n := strings.Count(log.String(), "accept failed"); n < 1 || n > 1+int(time.Since(began)/time.Second)+1 {
				t.Errorf("%d lines tell of it: %s", n, log)
			}
			f.set(0, nil)
			exchange(t, waiting, 3)
			exchange(t, dial(t, l), 3)
			if n := e.refused[refusedDescriptors].Load(); n != 0 || e.sessions.Load() != 3 {
				t.Errorf("%d were shed, %d sessions are open", n, e.sessions.Load())
			}
		})
	}
}

// T2: a connection that is shed for want of a descriptor, or refused at MaxSessions, keeps no place among the sessions.
func TestShedKeepsNoPlace(t *testing.T) {
	l := unstarted(t)
	e := l.engine
	e.log = asynclog.New(slog.DiscardHandler)
	e.maxSessions = 1
	missing := error(unix.EMFILE)
	e.spare.Open = func() (int, error) {
		if missing != nil {
			return -1, missing
		}
		return openFile()
	}
	defer e.spare.Close()
	admit := func() (client *os.File) {
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
		if err != nil {
			t.Fatal(err)
		}
		e.admit(pendingConn{origin: &origin{network: "unix"}, fd: fds[0]}, l)
		_ = unix.SetNonblock(fds[1], true) // for the deadline
		client = os.NewFile(uintptr(fds[1]), "client")
		t.Cleanup(func() { _ = client.Close() })
		return client
	}
	gone := func(c *os.File) {
		t.Helper()
		_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
		if n, err := c.Read(make([]byte, 1)); n != 0 || err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("read %d, %v, want the end", n, err)
		}
	}
	for range 3 {
		gone(admit())
	}
	if n := e.sessions.Load(); n != 0 || e.refused[refusedDescriptors].Load() != 3 || len(l.pending) != 0 {
		t.Errorf("%d places are taken, %d shed, %d are handed on", n, e.refused[refusedDescriptors].Load(), len(l.pending))
	}
	missing = nil
	admit()
	if n := e.sessions.Load(); n != 1 || len(l.pending) != 1 || l.opening.Load() != 1 {
		t.Fatalf("%d places are taken, %d are handed on", n, len(l.pending))
	}
	gone(admit())
	if n := e.sessions.Load(); n != 1 || e.refused[refusedFull].Load() != 1 || len(l.pending) != 1 {
		t.Errorf("%d places are taken, %d refused, %d are handed on", n, e.refused[refusedFull].Load(), len(l.pending))
	}
	_ = unix.Close(l.pending[0].fd)
	l.pending = nil
	e.stop()
	gone(admit())
	if n := e.refused[refusedClosing].Load(); n != 1 || e.sessions.Load() != 1 {
		t.Errorf("%d are refused for the end", n)
	}
}

// A unix peer that passes a descriptor along cuts a read short: what follows is read all the same.
func TestShortReadOfUnixSocket(t *testing.T) {
	e, err := New(Options{Loops: 1, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	sessions, got := make(chan *recorder, 1), make(chan struct{}, 100)
	l, err := e.Listen("unix", folder(t)+"/s", func() session.Handler {
		s := &recorder{}
		s.connected = func() { sessions <- s }
		s.recv = func(data []byte) { // no answer: its being taken would be news, upon which all is read
			for range data {
				got <- struct{}{}
			}
		}
		return s
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Start(); err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	conn, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	s := receive(t, sessions)
	held, release := make(chan struct{}), make(chan struct{})
	if err := s.Post(func() { close(held); <-release }); err != nil {
		t.Fatal(err)
	}
	<-held
	for range 5 {
		if _, _, err := conn.(*net.UnixConn).WriteMsgUnix([]byte("xx"), unix.UnixRights(0), nil); err != nil {
			t.Fatal(err)
		}
	}
	close(release)
	for range 10 {
		receive(t, got)
	}
}

// The connections of a loop that is held up wait for it up to a bound, and the listener asks for none beyond.
func TestRoomiest(t *testing.T) {
	first, second := unstarted(t), unstarted(t)
	e := first.engine
	e.loops = []*loop{first, second}
	for _, tt := range []struct {
		first, second [3]int32 // opening, live, expected
		want          *loop
	}{
		{[3]int32{0, 0, 0}, [3]int32{0, 0, 0}, first},
		{[3]int32{1, 0, 0}, [3]int32{0, 0, 0}, second},
		{[3]int32{0, 1, 0}, [3]int32{0, 0, 0}, second},
		{[3]int32{0, 0, 1}, [3]int32{0, 0, 0}, second},
		{[3]int32{1, 1, 1}, [3]int32{2, 2, 0}, first},
		{[3]int32{maxOpening, 0, 0}, [3]int32{0, 1000, 0}, second},
		{[3]int32{maxOpening - 1, 0, 0}, [3]int32{0, 1000, 0}, first},
		{[3]int32{maxOpening, 0, 0}, [3]int32{maxOpening, 0, 0}, nil},
	} {
		for l, n := range map[*loop][3]int32{first: tt.first, second: tt.second} {
			l.opening.Store(n[0])
			liveOf(l).Store(n[1])
			l.awaiting.Store(n[2])
		}
		if got := e.leastLoaded(maxOpening); got != tt.want {
			t.Errorf("%v and %v: another loop", tt.first, tt.second)
		}
	}
}
