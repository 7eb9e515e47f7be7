package engine_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/servercore-go/servercore/engine"
	kit "github.com/servercore-go/servercore/internal/enginekit"
	"github.com/servercore-go/servercore/session"
)

// T1: with every descriptor of the process taken, established sessions go on and newcomers are shed or wait; when
// there are descriptors again, newcomers are admitted. The limit of the whole process is lowered, so nothing runs
// beside this test.
func TestT1DescriptorsRunningOut(t *testing.T) {
	kit.NoLeaks(t)
	var before syscall.Rlimit
	kit.Must(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &before))
	s := kit.Serve(t, "tcp", engine.Options{Loops: 2, MaxSessions: -1}, kit.Hooks{Recv: func(p *kit.Session, data []byte) { _ = p.Send(data) }})
	var established []net.Conn
	for range 20 {
		c, _ := s.Connect()
		established = append(established, c)
	}
	reserve, err := os.Open(os.DevNull)
	kit.Must(t, err)
	low := before
	low.Cur = uint64(kit.OpenDescriptors(t) + 20)
	kit.Must(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &low))
	restore := sync.OnceFunc(func() { kit.Must(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &before)) })
	defer restore()

	var flood []net.Conn
	for range 300 { // clients and server share the descriptors, so that both sides run out
		if c, err := net.DialTimeout("tcp", s.Listener.Addr().String(), time.Second); err == nil {
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
	kit.Must(t, reserve.Close()) // one descriptor for a client whose accept finds none
	if c, err := net.Dial("tcp", s.Listener.Addr().String()); err == nil {
		flood = append(flood, c)
	}
	kit.Eventually(t, "accept has failed", func() bool { return s.Stats().AcceptErrors > 0 })
	for _, c := range established {
		kit.Exchange(t, c, "still here")
	}
	for _, f := range hoard {
		_ = f.Close()
	}
	for _, c := range flood {
		_ = c.Close()
	}
	restore()
	kit.Eventually(t, "a new connection is served", func() bool {
		c, err := net.Dial("tcp", s.Listener.Addr().String())
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
		kit.Exchange(t, c, "and after")
		kit.Must(t, c.Close())
	}
}

// T1: a dial that finds no descriptor is an error that says so, and later ones succeed.
func TestDialWithoutDescriptors(t *testing.T) {
	kit.NoLeaks(t)
	l := kit.Listen(t, "tcp") // nobody accepts: that would take a descriptor too
	c := kit.Dialler(t, engine.Options{Loops: 2, MaxSessions: -1}, kit.Hooks{})
	c.DialTo(l.Addr())
	var before syscall.Rlimit
	kit.Must(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &before))
	low := before
	low.Cur = uint64(kit.OpenDescriptors(t) + 20)
	kit.Must(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &low))
	var hoard []*os.File
	for {
		f, err := os.Open(os.DevNull)
		if err != nil {
			break
		}
		hoard = append(hoard, f)
	}
	restore := sync.OnceFunc(func() {
		kit.Must(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &before))
		for _, f := range hoard {
			_ = f.Close()
		}
	})
	defer restore()
	_, err := c.Dial(t.Context(), "tcp", l.Addr().String(), c.New)
	kit.WantError(t, "Dial without a descriptor for the socket", err, syscall.EMFILE)
	_ = hoard[0].Close()
	hoard = hoard[1:]
	_, err = c.Dial(t.Context(), "tcp", l.Addr().String(), c.New)
	kit.WantError(t, "Dial without a second one", err, syscall.EMFILE)
	restore()
	c.DialTo(l.Addr())
}

// T1: a session whose reading has to be stopped while there is no descriptor left is not lost.
func TestT1PausingWithoutDescriptors(t *testing.T) {
	kit.NoLeaks(t)
	s := kit.Serve(t, "tcp", engine.Options{Loops: 2, SendBuffer: 64 << 10}, kit.Hooks{Recv: kit.Echo})
	c, p := s.Connect()
	var hoard []*os.File
	var before syscall.Rlimit
	kit.Must(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &before))
	low := before
	low.Cur = uint64(kit.OpenDescriptors(t) + 5)
	kit.Must(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &low))
	restore := sync.OnceFunc(func() {
		kit.Must(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &before))
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
	data := kit.Pattern(16 << 20)
	wrote := make(chan error, 1)
	go func() {
		_, err := c.Write(data)
		wrote <- errors.Join(err, c.(*net.TCPConn).CloseWrite())
	}()
	kit.Eventually(t, "reading is paused", func() bool { return s.Stats().Total.Pauses > 0 })
	kit.Must(t, kit.ReadAll(c, data))
	kit.Must(t, kit.Await(t, wrote, "the client has written"))
	kit.Await(t, p.Ended, "OnDisconnected")
	kit.WantError(t, "reason", p.Err(), session.ErrPeerClosed)
	restore()
}

// T3: urgent data cuts a read short and is itself lost; the bytes around it arrive.
func TestT3UrgentData(t *testing.T) {
	kit.OnLoops(t, func(t *testing.T, loops int) {
		s := kit.Serve(t, "tcp", engine.Options{Loops: loops}, kit.Hooks{Recv: kit.Echo})
		c, p := s.Connect()
		raw, err := c.(*net.TCPConn).SyscallConn()
		kit.Must(t, err)
		for range 20 {
			release := p.Hold(t)
			kit.Write(t, c, []byte("before"))
			kit.Must(t, raw.Control(func(fd uintptr) { err = unix.Sendto(int(fd), []byte("!"), unix.MSG_OOB, nil) }))
			kit.Must(t, err)
			kit.Write(t, c, []byte("after"))
			release()
			kit.Expect(t, c, "beforeafter")
		}
	})
}

// breakPollers has epoll_wait fail on every loop of a server from its next call on: its epolls, those that were not there before,
// get the place of a file.
func breakPollers(t *testing.T, before map[int]bool) {
	t.Helper()
	null, err := os.Open(os.DevNull)
	kit.Must(t, err)
	defer null.Close()
	for fd := range epolls(t) {
		if !before[fd] {
			kit.Must(t, syscall.Dup3(int(null.Fd()), fd, syscall.O_CLOEXEC))
		}
	}
}

// T5: an engine whose loop's poller fails says so, and ends every session.
func TestT5EndsByItself(t *testing.T) {
	before := epolls(t) // the Go runtime's own is among them, see TestMain
	log := new(kit.Log)
	s := kit.Prepare(t, "tcp", "127.0.0.1:0", engine.Options{Loops: 2, Logger: slog.New(log)}, kit.Hooks{Recv: kit.Echo})
	result := make(chan error, 1)
	go func() { result <- s.Run(context.Background()) }()
	kit.Eventually(t, "the engine listens", func() bool { return s.Listener.Addr().String() != "127.0.0.1:0" })
	_, p := s.Connect()
	_, q := s.Connect()
	breakPollers(t, before)
	_ = p.Post(func() {}) // wakes the loops
	_ = q.Post(func() {})
	err := kit.Await(t, result, "Run returns")
	if err == nil || errors.Is(err, engine.ErrClosed) || s.Err() == nil || errors.Is(s.Err(), engine.ErrClosed) {
		t.Errorf("Run returned %v, Err %v, want the fault", err, s.Err())
	}
	wantFault(t, log, err, s.Err())
	kit.Await(t, s.Done(), "Done")
	kit.Await(t, p.Ended, "OnDisconnected")
	kit.Await(t, q.Ended, "OnDisconnected")
}

// wantFault checks that the log tells of a poller's fault, and that all of the errors do.
func wantFault(t *testing.T, log *kit.Log, errs ...error) {
	t.Helper()
	if !slices.ContainsFunc(log.Lines(), func(line map[string]slog.Value) bool {
		return strings.Contains(line["msg"].String(), "loop has failed") && strings.Contains(line["err"].String(), "waiting for events")
	}) {
		t.Errorf("the fault is not logged: %v", log.Lines())
	}
	for _, err := range errs {
		if err == nil || !strings.Contains(err.Error(), "ended by itself") || !errors.Is(err, unix.EINVAL) {
			t.Errorf("%v, want it to tell of the fault", err)
		}
	}
}

// K12, T5: a fault that comes while somebody ends the engine is logged, and returned to who does; by Run too.
func TestT5FaultDuringTheEnd(t *testing.T) {
	for name, end := range map[string]func(*kit.Server, context.CancelFunc) error{
		"Shutdown": func(s *kit.Server, _ context.CancelFunc) error { return s.Shutdown(context.Background()) },
		"Run":      func(_ *kit.Server, cancel context.CancelFunc) error { cancel(); return nil },
	} {
		t.Run(name, func(t *testing.T) {
			before := epolls(t)
			log := new(kit.Log)
			o := engine.Options{Loops: 2, LingerTimeout: -1, DrainTimeout: -1, Logger: slog.New(log)}
			s := kit.Prepare(t, "tcp", "127.0.0.1:0", o, kit.Hooks{Recv: kit.Echo})
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			ran, ended := make(chan error, 1), make(chan error, 1)
			go func() { ran <- s.Run(ctx) }()
			kit.Eventually(t, "the engine listens", func() bool { return s.Listener.Addr().String() != "127.0.0.1:0" })
			_, p := s.Connect() // its client does not close: the end waits
			_, q := s.Connect()
			go func() { ended <- end(s, cancel) }()
			kit.Eventually(t, "the end has begun", func() bool { return s.Err() != nil && p.Err() != nil && q.Err() != nil })
			if len(log.Lines()) != 0 {
				t.Errorf("log: %v", log.Lines())
			}
			breakPollers(t, before)
			kit.Eventually(t, "the sessions have ended", func() bool { // the loops have to be woken, and may have ended
				_, _ = p.Post(func() {}), q.Post(func() {})
				_ = s.Ping(endedContext(t))
				return s.Stats().Sessions == 0
			})
			err := kit.Await(t, ran, "Run returns")
			wantFault(t, log, err, s.Err())
			kit.WantError(t, "Err", s.Err(), engine.ErrClosed)
			err = kit.Await(t, ended, name+" returns")
			if name == "Shutdown" {
				wantFault(t, log, err)
			}
			kit.Await(t, p.Ended, "OnDisconnected")
			kit.Await(t, q.Ended, "OnDisconnected")
		})
	}
}

// endedContext returns a context that has ended.
func endedContext(t *testing.T) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
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
