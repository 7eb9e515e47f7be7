package servercore_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/servercore-go/servercore/engine"
	"github.com/servercore-go/servercore/session"
)

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

func (r *record) all() []map[string]slog.Value {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.lines)
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
		eventually(t, "the panic is logged", func() bool {
			return slices.ContainsFunc(log.all(), func(line map[string]slog.Value) bool { return line["panic"].String() == "on purpose" })
		})
		panics, refusals := 0, 0
		for _, line := range log.all() {
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
