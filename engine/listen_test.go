package engine_test

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/servercore-go/servercore/engine"
	kit "github.com/servercore-go/servercore/internal/enginekit"
	"github.com/servercore-go/servercore/session"
)

// echoSession answers what it receives.
type echoSession struct{ session.Session }

func (s *echoSession) OnRecv(data []byte) { _ = s.Send(data) }

func newEcho() session.Handler { return new(echoSession) }

// T6: what cannot work is refused by name, and nothing half-started is left behind.
func TestT6BadOptions(t *testing.T) {
	for field, o := range map[string]engine.Options{
		"Loops":             {Loops: -1},
		"PauseAbove":        {SendLimit: 1000, PauseAbove: 1000},
		"SlowPeer":          {SlowPeer: 9},
		"KeepAlive":         {KeepAlive: time.Millisecond},
		"KeepAliveInterval": {KeepAliveInterval: -1},
		"KeepAliveCount":    {KeepAliveCount: 1000},
		"SendBuffer":        {SendBuffer: 1 << 31},
		"NotSentLowWater":   {NotSentLowWater: 1<<30 + 1},
	} {
		if _, err := engine.New(o); err == nil || !strings.Contains(err.Error(), "Options."+field+" ") {
			t.Errorf("%s: error %v, want one that names the field", field, err)
		}
	}
	for _, o := range []engine.Options{{}, {MaxSessions: -1, SendLimit: -1, PauseAbove: -1, IdleTimeout: -1, FirstByteTimeout: -1,
		WriteTimeout: -1, DrainTimeout: -1, LingerTimeout: -1, KeepAlive: -1, UserTimeout: -1, SendBuffer: -1, NotSentLowWater: -1}} {
		_, err := engine.New(o)
		kit.Must(t, err)
	}
}

func TestT6BadAddresses(t *testing.T) {
	e, err := engine.New(engine.Options{Logger: kit.Quiet})
	kit.Must(t, err)
	for _, tt := range [][2]string{{"udp", "127.0.0.1:0"}, {"", ":1"}, {"tcp", "nonsense"}, {"tcp", "127.0.0.1:70000"}, {"tcp", "127.0.0.1:-1"},
		{"tcp", "::1:80"}, {"unix", ""}, {"unix", strings.Repeat("x", 200)}, {"unix", "a\x00b"}} {
		if _, err := e.Listen(tt[0], tt[1], newEcho); err == nil {
			t.Errorf("Listen(%q, %q) succeeds", tt[0], tt[1])
		}
		if _, err := e.Dial(t.Context(), tt[0], tt[1], newEcho); err == nil {
			t.Errorf("Dial(%q, %q) succeeds", tt[0], tt[1])
		}
	}
	if _, err := e.Listen("tcp", "127.0.0.1:0", nil); err == nil || !strings.Contains(err.Error(), "factory") {
		t.Errorf("nil factory: %v", err)
	}
	if _, err := e.Listen("tcp", "127.0.0.1:0", newEcho, engine.Reconnect(engine.Policy{})); err == nil || !strings.Contains(err.Error(), "Reconnect") {
		t.Errorf("Listen with Reconnect: %v", err)
	}
	if st := e.Stats(); st.DialErrors != 0 {
		t.Errorf("%d dials are counted that were none", st.DialErrors)
	}
}

func TestT6AddressInUse(t *testing.T) {
	kit.OnNetworks(t, func(t *testing.T, network string, loops int) {
		other, err := net.Listen(network, kit.FreeAddress(t, network))
		kit.Must(t, err)
		defer other.Close()
		taken := other.Addr().String()

		e, err := engine.New(engine.Options{Loops: loops, Logger: kit.Quiet})
		kit.Must(t, err)
		defer e.Close()
		first, err := e.Listen("tcp", "127.0.0.1:0", newEcho)
		kit.Must(t, err)
		if first.Addr().String() != "127.0.0.1:0" {
			t.Errorf("Addr before Start is %v", first.Addr())
		}
		_, err = e.Listen(network, taken, newEcho)
		kit.Must(t, err)
		err = e.Start()
		kit.WantError(t, "Start", err, syscall.EADDRINUSE)
		if err != nil && !strings.Contains(err.Error(), taken) {
			t.Errorf("%v does not name %s", err, taken)
		}
		if c, err := net.Dial("tcp", first.Addr().String()); err == nil {
			c.Close()
			t.Error("the first listener was left behind")
		}
		if c, err := net.Dial(network, taken); err != nil {
			t.Errorf("the other's socket was stolen: %v", err)
		} else {
			c.Close()
		}
		kit.Must(t, other.Close())
		kit.Must(t, e.Start())
		if err := e.Start(); err == nil {
			t.Error("a second Start succeeds")
		}
		if _, err := e.Listen("tcp", "127.0.0.1:0", newEcho); err == nil {
			t.Error("Listen after Start succeeds")
		}
		c, err := net.Dial(network, taken)
		kit.Must(t, err)
		defer c.Close()
		kit.Exchange(t, c, "now ours")
	})
}

// T6: a path that is not a dead socket of ours is never removed.
func TestT6UnixPaths(t *testing.T) {
	kit.OnLoops(t, func(t *testing.T, loops int) {
		dir := filepath.Dir(kit.FreeAddress(t, "unix"))
		start := func(path string) (*engine.Engine, error) {
			e, err := engine.New(engine.Options{Loops: loops, Logger: kit.Quiet})
			kit.Must(t, err)
			_, err = e.Listen("unix", path, newEcho)
			kit.Must(t, err)
			t.Cleanup(func() { _ = e.Close() })
			return e, e.Start()
		}
		file := filepath.Join(dir, "file")
		kit.Must(t, os.WriteFile(file, []byte("precious"), 0o600))
		if _, err := start(file); err == nil {
			t.Error("a file was taken for a socket")
		}
		if b, err := os.ReadFile(file); err != nil || string(b) != "precious" {
			t.Errorf("the file holds %q, %v", b, err)
		}
		folder := filepath.Join(dir, "folder")
		kit.Must(t, os.Mkdir(folder, 0o700))
		if _, err := start(folder); err == nil {
			t.Error("a folder was taken for a socket")
		}
		if _, err := os.Stat(folder); err != nil {
			t.Error(err)
		}

		dead := filepath.Join(dir, "dead")
		l, err := net.Listen("unix", dead)
		kit.Must(t, err)
		l.(*net.UnixListener).SetUnlinkOnClose(false)
		kit.Must(t, l.Close())
		e, err := start(dead)
		kit.Must(t, err)
		c, err := net.Dial("unix", dead)
		kit.Must(t, err)
		kit.Exchange(t, c, "alive")
		kit.Must(t, c.Close())
		kit.Must(t, e.Close())
		if _, err := os.Lstat(dead); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the path is left after Close: %v", err)
		}

		e, err = start(dead)
		kit.Must(t, err)
		kit.Must(t, os.Remove(dead))
		l, err = net.Listen("unix", dead)
		kit.Must(t, err)
		defer l.Close()
		kit.Must(t, e.Close())
		if _, err := os.Lstat(dead); err != nil {
			t.Errorf("Close removed a socket that is not ours: %v", err)
		}
	})
}

// Several listeners, each with its own factory; the wildcard address tells the real local one; IPv6.
func TestSeveralListeners(t *testing.T) {
	kit.OnLoops(t, func(t *testing.T, loops int) {
		e, err := engine.New(engine.Options{Loops: loops, Logger: kit.Quiet})
		kit.Must(t, err)
		defer e.Close()
		addresses := [][2]string{{"tcp4", "0.0.0.0:0"}, {"tcp", "127.0.0.1:0"}, {"unix", kit.FreeAddress(t, "unix")}}
		if b, err := os.ReadFile("/proc/net/if_inet6"); err != nil || strings.Contains(string(b), " lo\n") {
			addresses = append(addresses, [2]string{"tcp6", "[::1]:0"})
		}
		var listeners []*engine.Listener
		for i, a := range addresses {
			name := string(rune('a' + i))
			l, err := e.Listen(a[0], a[1], session.Events{OnRecv: func(s *session.Session, _ []byte) {
				_ = s.Send([]byte(name + " " + s.LocalAddr().String()))
				s.Disconnect()
			}}.Factory())
			kit.Must(t, err)
			listeners = append(listeners, l)
		}
		kit.Must(t, e.Start())
		for i, l := range listeners {
			to := strings.Replace(l.Addr().String(), "0.0.0.0", "127.0.0.1", 1)
			c, err := net.Dial(l.Addr().Network(), to)
			kit.Must(t, err)
			kit.Write(t, c, []byte("who are you?"))
			kit.Expect(t, c, string(rune('a'+i))+" "+to)
			kit.Must(t, c.Close())
		}
	})
}
