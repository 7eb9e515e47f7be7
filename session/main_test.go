package session_test

import (
	"fmt"
	"os"
	"slices"
	"testing"

	"go.uber.org/goleak"

	"github.com/servercore-go/servercore/internal/testkit"
	"github.com/servercore-go/servercore/pool"
	"github.com/servercore-go/servercore/session"
)

// No test may leave a goroutine or a pooled buffer behind.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if n := pool.Live(); n != 0 {
			fmt.Fprintf(os.Stderr, "%d pooled buffers were not released\n", n)
			code = 1
		}
		os.Exit(code)
	}))
}

// newLoop returns a loop for one test. At the test's end what still lives is aborted, and nothing may be left
// over: no session, no pooled buffer, no broken rule.
func newLoop(t testing.TB, limits session.Limits) *testkit.Loop {
	t.Helper()
	l := testkit.NewLoop(limits)
	t.Cleanup(func() {
		l.Abort()
		for _, fault := range l.Faults() {
			t.Error(fault)
		}
		if n := pool.Live(); n != 0 {
			t.Errorf("%d pooled buffers are live when no session is", n)
		}
	})
	return l
}

// connect is a loop with one session.
func connect(t testing.TB, limits session.Limits, h *testkit.Handler) (*testkit.Loop, *testkit.Conn) {
	t.Helper()
	l := newLoop(t, limits)
	return l, l.Connect(h)
}

func buffer(p string) *pool.Buffer {
	b := pool.GetSize(len(p))
	b.B = append(b.B, p...)
	return b
}

func mustSend(t testing.TB, h *testkit.Handler, p string) {
	t.Helper()
	if err := h.Send([]byte(p)); err != nil {
		t.Errorf("Send: %v", err)
	}
}

func wantLog(t testing.TB, h *testkit.Handler, want ...string) {
	t.Helper()
	if !slices.Equal(h.Log, want) {
		t.Errorf("callbacks:\n got %q\nwant %q", h.Log, want)
	}
}

func wantWire(t testing.TB, c *testkit.Conn, want string) {
	t.Helper()
	if got := string(c.Wire); got != want {
		t.Errorf("the kernel took %.80q (%d bytes), want %.80q (%d)", got, len(got), want, len(want))
	}
}

// wantSent checks the accounting of a session: what Send accepted, what OnSend told, what waits.
func wantSent(t testing.TB, h *testkit.Handler, accepted, sent int) {
	t.Helper()
	if h.SentSum != sent || h.Pending() != accepted-sent {
		t.Errorf("OnSend told %d and %d wait, want %d and %d", h.SentSum, h.Pending(), sent, accepted-sent)
	}
}

// wantClosed checks how a connection ended.
func wantClosed(t testing.TB, c *testkit.Conn, reset bool) {
	t.Helper()
	if !c.Closed || !c.Ended {
		t.Fatalf("closed %t, done %t, want both", c.Closed, c.Ended)
	}
	if c.WasReset != reset {
		t.Errorf("reset: %t, want %t", c.WasReset, reset)
	}
}
