package servercore_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

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
	if c := flood[len(flood)-1]; true { // one descriptor for a client whose accept finds none
		_ = c.Close()
		if c, err := net.Dial("tcp", s.listener.Addr().String()); err == nil {
			flood = append(flood, c)
		}
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

// T2: MaxSessions is never exceeded; who is over it sees the close, and causes no callback.
func TestT2MaxSessionsNeverExceeded(t *testing.T) {
	onLoops(t, func(t *testing.T, loops int) {
		const limit, clients = 20, 200
		var now, most atomic.Int64
		s := serve(t, "tcp", engine.Options{Loops: loops, MaxSessions: limit}, hooks{
			connected: func(*peer) {
				n := now.Add(1)
				for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
				}
			},
			recv:         echo,
			disconnected: func(*peer) { now.Add(-1) },
		})
		for round := 1; round <= 2; round++ {
			var admitted, refused atomic.Int64
			var wg sync.WaitGroup
			gate := make(chan struct{})
			for range clients {
				wg.Go(func() {
					c, err := net.Dial("tcp", s.listener.Addr().String())
					if err != nil {
						refused.Add(1)
						return
					}
					defer c.Close()
					_ = c.SetDeadline(time.Now().Add(patience))
					_, _ = c.Write([]byte("x"))
					switch _, err := c.Read(make([]byte, 1)); {
					case err == nil:
						admitted.Add(1)
						<-gate
					case errors.Is(err, os.ErrDeadlineExceeded):
						t.Error("a client was neither admitted nor refused")
					default:
						refused.Add(1)
					}
				})
			}
			eventually(t, "every client knows", func() bool { return admitted.Load()+refused.Load() == clients })
			close(gate)
			wg.Wait()
			if admitted.Load() != limit {
				t.Errorf("round %d: %d were admitted, want %d", round, admitted.Load(), limit)
			}
			eventually(t, "all have left", func() bool { return s.Stats().Sessions == 0 })
		}
		if most.Load() > limit {
			t.Errorf("%d sessions at once, want at most %d", most.Load(), limit)
		}
		if st := s.Stats(); st.Refused.Full != 2*(clients-limit) || st.Accepted != 2*limit {
			t.Errorf("stats count %d accepted, %+v", st.Accepted, st.Refused)
		}
	})
}

// T4: a session that slowly takes a large reply is not idle; one that does nothing is.
func TestT4SlowTakerIsNotIdle(t *testing.T) {
	onLoops(t, func(t *testing.T, loops int) {
		const idle = 200 * time.Millisecond
		reply := pattern(2 << 20)
		s := serve(t, "tcp", engine.Options{Loops: loops, IdleTimeout: idle, SendLimit: 4 << 20, SendBuffer: 16 << 10,
			LingerTimeout: 50 * time.Millisecond}, hooks{})
		c, p := s.session(s.dialSmall())
		must(t, p.Send(reply))
		began := time.Now()
		buf := make([]byte, 64<<10)
		for got := 0; got < len(reply); {
			n, err := c.Read(buf)
			if err != nil {
				t.Fatalf("after %d of %d bytes and %v: %v", got, len(reply), time.Since(began), err)
			}
			got += n
			time.Sleep(time.Duration(n) * 4 * idle / time.Duration(len(reply))) // the reader's slowness is the subject
		}
		if d := time.Since(began); d < 2*idle {
			t.Fatalf("the reply was taken in %v, too fast for this test", d)
		}
		await(t, p.ended, "OnDisconnected of the session that has become idle")
		wantError(t, "reason", p.Err(), session.ErrIdle)
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

// record is a slog.Handler that keeps what it is given.
type record struct {
	mu    sync.Mutex
	lines []map[string]slog.Value
}

func (*record) Enabled(context.Context, slog.Level) bool { return true }
func (r *record) WithAttrs([]slog.Attr) slog.Handler     { return r }
func (r *record) WithGroup(string) slog.Handler          { return r }
func (r *record) Handle(_ context.Context, l slog.Record) error {
	line := map[string]slog.Value{"msg": slog.StringValue(l.Message)}
	l.Attrs(func(a slog.Attr) bool { line[a.Key] = a.Value; return true })
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines = append(r.lines, line)
	return nil
}

// T7: a failed callback is logged with where it happened, and a flood of refusals is not a flood of lines.
func TestT7Log(t *testing.T) {
	onLoops(t, func(t *testing.T, loops int) {
		log := new(record)
		s := serve(t, "tcp", engine.Options{Loops: loops, MaxSessions: 1, Logger: slog.New(log)},
			hooks{recv: func(*peer, []byte) { panic("on purpose") }})
		c, p := s.connect()
		began := time.Now()
		for range 50 {
			refused := s.dial()
			_, _ = refused.Read(make([]byte, 1))
		}
		took := time.Since(began)
		write(t, c, []byte("x"))
		await(t, p.ended, "OnDisconnected")
		log.mu.Lock()
		defer log.mu.Unlock()
		panics, refusals := 0, 0
		for _, line := range log.lines {
			switch {
			case line["panic"].String() == "on purpose":
				panics++
				for key, want := range map[string]string{"remote": p.RemoteAddr().String(), "session": strconv.FormatUint(p.ID(), 10)} {
					if got := line[key].String(); got != want {
						t.Errorf("%s is %q, want %q", key, got, want)
					}
				}
				if _, ok := line["loop"]; !ok || !strings.Contains(line["stack"].String(), "TestT7Log") {
					t.Errorf("no loop or no stack in %v", line)
				}
			case strings.Contains(line["msg"].String(), "MaxSessions"):
				refusals++
			}
		}
		if panics != 1 || refusals < 1 || refusals > 1+int(took/time.Second) {
			t.Errorf("%d lines about the panic and %d about 50 refusals in %v", panics, refusals, took)
		}
	})
}
