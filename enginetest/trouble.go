package enginetest

import (
	"errors"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/servercore-go/servercore/engine"
	kit "github.com/servercore-go/servercore/internal/enginekit"
	"github.com/servercore-go/servercore/session"
)

// trouble is chapter 6 of the contract, as far as it is about sessions.
var trouble = []promise{
	{"T2", "MaxSessions is never exceeded", accepting, maxSessionsNeverExceeded},
	{"T4", "a session that slowly takes a large reply is not idle", 0, slowTakerIsNotIdle},
	{"T7", "a panic is logged with its place, refusals once a second", accepting, logTellsOfPanics},
}

// T2: MaxSessions is never exceeded; a connection above it sees the close, and causes no callback.
func maxSessionsNeverExceeded(t testing.TB, v *Variant) {
	const limit, clients = 20, 200
	var now, most atomic.Int64
	s := v.serve(t, engine.Options{MaxSessions: limit}, kit.Hooks{
		Connected: func(*kit.Session) {
			n := now.Add(1)
			for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
			}
		},
		Recv:         kit.Echo,
		Disconnected: func(*kit.Session) { now.Add(-1) },
	})
	for round := 1; round <= 2; round++ {
		var admitted, refused atomic.Int64
		var wg sync.WaitGroup
		gate := make(chan struct{})
		for range clients {
			wg.Go(func() {
				c, err := s.try()
				if err != nil {
					refused.Add(1)
					return
				}
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(kit.Patience))
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
		kit.Eventually(t, "every client knows", func() bool { return admitted.Load()+refused.Load() == clients })
		close(gate)
		wg.Wait()
		if admitted.Load() != limit {
			t.Errorf("round %d: %d were admitted, want %d", round, admitted.Load(), limit)
		}
		kit.Eventually(t, "all have left", func() bool { return s.Stats().Sessions == 0 })
	}
	if most.Load() > limit {
		t.Errorf("%d sessions at once, want at most %d", most.Load(), limit)
	}
	if st := s.Stats(); st.Refused.Full != 2*(clients-limit) || st.Accepted != 2*limit {
		t.Errorf("stats count %d accepted, %+v", st.Accepted, st.Refused)
	}
}

// T4: a session that slowly takes a large reply is not idle; one that does nothing is.
func slowTakerIsNotIdle(t testing.TB, v *Variant) {
	for range 3 {
		if v.takeSlowly(t) {
			return
		}
	}
	t.Error("the machine was too busy for a steady reader three times")
}

// takeSlowly returns false if the reader has read nothing for as long as a session may be idle, because the machine was busy.
func (v *Variant) takeSlowly(t testing.TB) (steady bool) {
	t.Helper()
	const idle = 400 * time.Millisecond
	reply := kit.Pattern(2 << 20)
	s := v.serve(t, engine.Options{IdleTimeout: idle, SendLimit: 4 << 20, SendBuffer: 16 << 10,
		LingerTimeout: 50 * time.Millisecond}, kit.Hooks{})
	c, p := s.session(s.smallClient())
	kit.Must(t, p.Send(reply))
	began, longest := time.Now(), time.Duration(0)
	buf := make([]byte, 64<<10)
	for got, last := 0, began; got < len(reply); {
		n, err := c.Read(buf)
		longest = max(longest, time.Since(last))
		if err != nil {
			if longest < idle/2 {
				t.Fatalf("after %d of %d bytes and %v: %v", got, len(reply), time.Since(began), err)
			}
			return false
		}
		got, last = got+n, time.Now()
		time.Sleep(time.Duration(n) * 4 * idle / time.Duration(len(reply))) // the reader's slowness is the subject
	}
	if d := time.Since(began); d < 2*idle {
		t.Fatalf("the reply was taken in %v, too fast for this test", d)
	}
	kit.Await(t, p.Ended, "OnDisconnected of the session that has become idle")
	kit.WantError(t, "reason", p.Err(), session.ErrIdle)
	return true
}

// T7: a failed callback is logged with where it happened, and a flood of refusals is not a flood of lines.
func logTellsOfPanics(t testing.TB, v *Variant) {
	log := new(kit.Log)
	s := v.serve(t, engine.Options{MaxSessions: 1, Logger: slog.New(log)},
		kit.Hooks{Recv: func(*kit.Session, []byte) { panic("on purpose") }})
	c, p := s.connect()
	began := time.Now()
	for range 50 {
		refused := s.refused()
		_, _ = refused.Read(make([]byte, 1))
	}
	took := time.Since(began)
	kit.Write(t, c, []byte("x"))
	kit.Await(t, p.Ended, "OnDisconnected")
	kit.Eventually(t, "the panic is logged", func() bool {
		return slices.ContainsFunc(log.Lines(), func(line map[string]slog.Value) bool { return line["panic"].String() == "on purpose" })
	})
	panics, refusals := 0, 0
	for _, line := range log.Lines() {
		switch {
		case line["panic"].String() == "on purpose":
			panics++
			for key, want := range map[string]string{"remote": p.RemoteAddr().String(), "session": strconv.FormatUint(p.ID(), 10)} {
				if got := line[key].String(); got != want {
					t.Errorf("%s is %q, want %q", key, got, want)
				}
			}
			if _, ok := line["loop"]; !ok || !strings.Contains(line["stack"].String(), "logTellsOfPanics") {
				t.Errorf("no loop or no stack in %v", line)
			}
		case strings.Contains(line["msg"].String(), "MaxSessions"):
			refusals++
		}
	}
	if panics != 1 || refusals < 1 || refusals > 1+int(took/time.Second) {
		t.Errorf("%d lines about the panic and %d about 50 refusals in %v", panics, refusals, took)
	}
}
