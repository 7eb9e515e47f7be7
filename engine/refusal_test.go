package engine

import (
	"bytes"
	"errors"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/servercore-go/servercore/internal/reactor"
	"github.com/servercore-go/servercore/session"
)

// logged waits until everything that was logged is written.
func logged(t *testing.T, e *Engine) {
	t.Helper()
	if !e.log.Flush(5 * time.Second) {
		t.Fatal("records wait still after 5 s")
	}
}

// lockedLog is a log that may be written and read at once.
type lockedLog struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// A system that refuses every option for tuning, as sandboxes do, costs one warning for each, and neither Start nor Dial.
func TestRefusedOptions(t *testing.T) {
	for _, refusal := range []error{unix.ENOPROTOOPT, unix.EPERM, unix.ENOSYS, unix.EOPNOTSUPP} {
		log := new(lockedLog)
		e, err := New(Options{Loops: 1, Logger: slog.New(slog.NewTextHandler(log, nil))})
		if err != nil {
			t.Fatal(err)
		}
		e.setsockopt = func(int, int, int, int) error { return refusal }
		factory := func() session.Handler { return &plain{connected: make(chan struct{})} }
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		var listeners []*Listener
		for _, options := range [][]Option{nil, {From(ln.(syscall.Conn))}} {
			l, err := e.Listen("tcp", "127.0.0.1:0", factory, options...)
			if err != nil {
				t.Fatal(err)
			}
			listeners = append(listeners, l)
		}
		if err := e.Start(); err != nil {
			t.Fatal(err)
		}
		defer e.Close()
		for _, l := range listeners {
			for range 3 {
				c, err := net.Dial("tcp", l.Addr().String())
				if err != nil {
					t.Fatal(err)
				}
				exchange(t, c, 1)
				_ = c.Close()
			}
			if _, err := e.Dial(t.Context(), "tcp", l.Addr().String(), factory); err != nil {
				t.Errorf("Dial: %v", err)
			}
		}
		logged(t, e)
		for _, o := range e.tuning {
			if n := strings.Count(log.String(), "option="+o.name+" "); n != 1 {
				t.Errorf("%v: %d warnings about %s, want 1", refusal, n, o.name)
			}
		}
		if n := strings.Count(log.String(), "refuses a socket option"); n != len(e.tuning) {
			t.Errorf("%d warnings, want %d: %s", n, len(e.tuning), log)
		}
	}
}

// One option that is refused does not keep the others from being set.
func TestRefusedOptionAlone(t *testing.T) {
	log := new(lockedLog)
	e, err := New(Options{Loops: 1, Logger: slog.New(slog.NewTextHandler(log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	var set []string
	e.setsockopt = func(_, level, option, _ int) error {
		for _, o := range e.tuning {
			if o.level == level && o.number == option {
				set = append(set, o.name)
			}
		}
		if level == unix.SOL_SOCKET && option == unix.SO_KEEPALIVE {
			return unix.ENOPROTOOPT
		}
		return nil
	}
	e.tune(-1)
	if len(set) != len(e.tuning) || len(set) < 5 {
		t.Errorf("%v were set, want all of %v", set, e.tuning)
	}
	logged(t, e)
	if !strings.Contains(log.String(), "SO_KEEPALIVE") || strings.Contains(log.String(), "NODELAY") {
		t.Errorf("the log says %s", log)
	}
}

// A system without TCP_NOTSENT_LOWAT has a send buffer of 256 KiB bound what the kernel holds, unless Options say otherwise.
func TestRefusedNotSentLowWater(t *testing.T) {
	for name, tt := range map[string]struct {
		o    Options
		want []int
	}{
		"default":       {Options{}, []int{256 << 10}},
		"a send buffer": {Options{SendBuffer: 32 << 10}, []int{32 << 10}},
		"tuned":         {Options{SendBuffer: -1}, nil},
		"both off":      {Options{SendBuffer: -1, NotSentLowWater: -1}, nil},
	} {
		tt.o.Logger = slog.New(slog.DiscardHandler)
		e, err := New(tt.o)
		if err != nil {
			t.Fatal(err)
		}
		var sizes []int
		e.setsockopt = func(_, level, option, value int) error {
			switch {
			case level == unix.SOL_SOCKET && option == unix.SO_SNDBUF:
				sizes = append(sizes, value)
			case level == unix.IPPROTO_TCP && option == reactor.NotSentLowWater:
				return unix.ENOPROTOOPT
			}
			return nil
		}
		e.tune(-1)
		if !slices.Equal(sizes, tt.want) {
			t.Errorf("%s: SO_SNDBUF was set to %v, want %v", name, sizes, tt.want)
		}
	}
}

// An error of Start says what to do.
func TestHints(t *testing.T) {
	for _, tt := range []struct {
		network string
		err     error
		says    string
	}{
		{"tcp", unix.EMFILE, "ulimit -n"},
		{"unix", unix.EMFILE, "ulimit -n"},
		{"", unix.EMFILE, "ulimit -n"},
		{"tcp6", unix.ENFILE, "fs.file-max"},
		{"tcp4", unix.EADDRINUSE, "another process"},
		{"tcp", unix.EACCES, "ports below 1024"},
		{"unix", unix.EACCES, "folders of the path"},
		{"tcp6", unix.EADDRNOTAVAIL, "no interface"},
		{"tcp6", unix.EAFNOSUPPORT, "IPv6"},
		{"unix", unix.ENOENT, "make it first"},
		{"unix", unix.ENAMETOOLONG, "too long"},
		{"unix", unix.EROFS, "read-only"},
		{"unix", unix.ENOTDIR, "folder"},
		{"tcp", unix.ENOMEM, "memory"},
	} {
		if got := hint(tt.network, &net.OpError{Op: "listen", Err: tt.err}); !strings.Contains(got, tt.says) {
			t.Errorf("%s, %v: %q, want one that says %q", tt.network, tt.err, got, tt.says)
		}
	}
	if got := hint("unix", unix.EADDRINUSE) + hint("tcp", unix.ENOENT) + hint("tcp", errors.New("?")); got != "" {
		t.Errorf("%q, want nothing", got)
	}
}
