package engine

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/servercore-go/servercore/internal/asynclog"
	"github.com/servercore-go/servercore/session"
)

// bound returns a listener that is bound and from which nobody accepts.
func bound(t *testing.T, network, address string, options ...Option) *Listener {
	t.Helper()
	e, err := New(Options{Loops: 1, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	l, err := e.Listen(network, address, func() session.Handler { return &recorder{} }, options...)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.bind(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.unbind)
	return l
}

// scripted is an engine whose spare descriptor is opened as the test says.
func scripted(t *testing.T, answers ...error) (*Engine, *Listener, *bytes.Buffer) {
	t.Helper()
	log := new(bytes.Buffer)
	l := bound(t, "tcp", "127.0.0.1:0")
	e := l.engine
	e.log = asynclog.New(slog.NewTextHandler(log, nil))
	e.spare.Open = func() (int, error) {
		if len(answers) > 0 {
			err := answers[0]
			answers = answers[1:]
			if err != nil {
				return -1, err
			}
		}
		return openFile()
	}
	t.Cleanup(e.spare.Close)
	return e, l, log
}

// openFile opens a descriptor that can be the spare.
func openFile() (int, error) { return unix.Open(os.DevNull, unix.O_RDONLY|unix.O_CLOEXEC, 0) }

func endOf(t *testing.T, c net.Conn) error {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
	_, err := c.Read(make([]byte, 1))
	return err
}

// T1: while there is no descriptor to replace the spare, the connection that took it is reset; once there is one it stays.
func TestAcceptOnSpare(t *testing.T) {
	noMore := os.NewSyscallError("eventfd", unix.EMFILE)
	for name, tt := range map[string]struct {
		answers []error
		shed    bool
		line    string
	}{
		"shortage over":     {answers: []error{nil, nil}},
		"shortage lasts":    {answers: []error{nil, noMore, nil}, shed: true},
		"system's shortage": {answers: []error{nil, unix.ENFILE, nil}, shed: true},
		"sandbox":           {answers: []error{nil, unix.EPERM, unix.EPERM}, line: "no descriptor can be kept in reserve"},
	} {
		e, l, log := scripted(t, tt.answers...)
		if err := e.spare.Keep(); err != nil {
			t.Fatal(name, err)
		}
		client := dial(t, l)
		n, waiting := e.acceptOnSpare(l)
		if !waiting || (n.origin != nil) == tt.shed {
			t.Errorf("%s: waiting %v, connection %v", name, waiting, n)
		}
		if tt.shed {
			if err := endOf(t, client); !errors.Is(err, unix.ECONNRESET) {
				t.Errorf("%s: %v, want a reset", name, err)
			}
		} else {
			_ = unix.Close(n.fd)
			if err := endOf(t, client); err != io.EOF {
				t.Errorf("%s: %v, want the end", name, err)
			}
		}
		if held := e.spare.Held(); held != (tt.line == "") {
			t.Errorf("%s: the spare is held: %v", name, held)
		}
		logged(t, e)
		if got := log.String(); !strings.Contains(got, tt.line) || (got == "") != (tt.line == "") {
			t.Errorf("%s: the log says %q", name, got)
		}
		if n := e.acceptErrors.Load(); (n > 0) != (tt.line != "") {
			t.Errorf("%s: %d errors are counted", name, n)
		}
	}
}

// Nobody waits: the spare is back, and there is nothing to count.
func TestAcceptOnSpareForNobody(t *testing.T) {
	e, l, _ := scripted(t)
	if err := e.spare.Keep(); err != nil {
		t.Fatal(err)
	}
	if n, waiting := e.acceptOnSpare(l); waiting || n.origin != nil || !e.spare.Held() {
		t.Errorf("%v, waiting %v, the spare is held: %v", n, waiting, e.spare.Held())
	}
}

// A spare that is missing is kept again by the next connection; one that can never be kept sheds nobody.
func TestSpareKept(t *testing.T) {
	e, _, log := scripted(t, unix.EMFILE, nil)
	if e.spareKept() {
		t.Error("a connection is kept though the spare needs its descriptor")
	}
	kept := e.spareKept()
	if logged(t, e); !kept || !e.spare.Held() || log.Len() > 0 {
		t.Errorf("the spare is not kept again; the log says %q", log.String())
	}
	if !e.spareKept() || !e.spare.Held() {
		t.Error("the spare that is kept is given up")
	}

	e, _, log = scripted(t, unix.EPERM, unix.ENOMEM, unix.EACCES)
	for range 3 {
		if !e.spareKept() || e.spare.Held() {
			t.Error("a connection is shed in vain")
		}
	}
	logged(t, e)
	if n := strings.Count(log.String(), "\n"); n != 1 || e.acceptErrors.Load() != 3 {
		t.Errorf("%d lines, %d errors counted, want 1 and 3: %s", n, e.acceptErrors.Load(), log)
	}
}
