package echoserver

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/servercore-go/servercore/internal/wsconn"
	"github.com/servercore-go/servercore/layer/websocket"
	"github.com/servercore-go/servercore/session"
)

// churn is a number of clients that connect, talk and leave, one time after the other, until stop.
type churn struct {
	batch chan struct{} // gets a value after every 150 calls, if there is room
	stop  func() int    // ends it and returns the number of calls
}

// startChurn starts clients that make a call each, again and again. A call that fails fails the test.
func startChurn(t *testing.T, clients int, call func(client, n int) error) *churn {
	t.Helper()
	c := &churn{batch: make(chan struct{}, 1)}
	quit := make(chan struct{})
	var calls, failed atomic.Int32
	var group sync.WaitGroup
	c.stop = sync.OnceValue(func() int {
		close(quit)
		group.Wait()
		return int(calls.Load())
	})
	t.Cleanup(func() { c.stop() })
	for i := range clients {
		group.Go(func() {
			tick := time.NewTicker(10 * time.Millisecond)
			defer tick.Stop()
			for n := 0; ; n++ {
				select {
				case <-tick.C:
				case <-quit:
					return
				}
				if err := call(i, n); err != nil && failed.Add(1) < 10 {
					t.Errorf("call %d of client %d: %v", n, i, err)
				}
				if calls.Add(1)%150 == 0 {
					select {
					case c.batch <- struct{}{}:
					default:
					}
				}
			}
		})
	}
	return c
}

// restartUnderLoad restarts a server twice under the load of calls. Each process has a session that hold makes, which goes on; ended checks
// how it ends when its process is told to.
func restartUnderLoad(t *testing.T, p *process, load *churn, hold func() (net.Conn, error), ended func(net.Conn) error) {
	t.Helper()
	pids := []int{p.cmd.Process.Pid}
	var held []net.Conn
	for n := 1; n <= 2; n++ {
		<-load.batch
		c, err := hold()
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		held = append(held, c)
		if err := syscall.Kill(pids[n-1], syscall.SIGUSR2); err != nil {
			t.Fatal(err)
		}
		pids = append(pids, p.successor(n))
		for i, c := range held {
			if err := echoed(c); err != nil {
				t.Errorf("session %d after restart %d: %v", i, n, err)
			}
		}
	}
	<-load.batch
	t.Logf("%d calls", load.stop())
	for i, c := range held { // each is the last session of its process
		if err := echoed(c); err != nil {
			t.Errorf("session %d at the end: %v", i, err)
		}
		kill(t, pids[i]) // a signal ends a process that drains, too
		if err := ended(c); err != nil {
			t.Errorf("the end of session %d: %v", i, err)
		}
		c.Close()
		if i == 0 {
			p.wantExit(exitOK)
		} else {
			wantExitOf(t, pids[i], exitOK)
		}
	}
	kill(t, pids[2])
	wantExitOf(t, pids[2], exitOK)
}

// Two restarts under load of TLS refuse and reset no connection. Every client resumes its session in each process, with TLS 1.2 and 1.3, and
// sessions from before go on and end with close_notify.
func TestRestartRefusesNobodyOverTLS(t *testing.T) {
	reap(t)
	p := spawn(t, "-addr", "127.0.0.1:0", "-drain", "1m", "-tls-self-signed")
	const clients = 6
	configs := make([]*tls.Config, clients) // each has its own tickets
	for i := range configs {
		configs[i] = pinning(t, p.logged())
		configs[i].MaxVersion = []uint16{tls.VersionTLS12, tls.VersionTLS13}[i%2]
	}
	dial := func(config *tls.Config) (*tls.Conn, error) {
		return tls.DialWithDialer(&net.Dialer{Timeout: patience}, p.addr().Network(), p.addr().String(), config)
	}
	load := startChurn(t, clients, func(client, n int) error {
		c, err := dial(configs[client])
		if err != nil {
			return err
		}
		defer c.Close()
		if err := echoed(c); err != nil {
			return err
		}
		if resumed := c.ConnectionState().DidResume; resumed != (n > 0) {
			return fmt.Errorf("resumed %t", resumed)
		}
		if err := c.CloseWrite(); err != nil {
			return err
		}
		if k, err := c.Read(make([]byte, 1)); k > 0 || err != io.EOF {
			return fmt.Errorf("%d bytes, %v at the end, want close_notify", k, err)
		}
		return nil
	})
	restartUnderLoad(t, p, load, func() (net.Conn, error) { return dial(pinning(t, p.logged())) }, func(c net.Conn) error {
		if n, err := c.Read(make([]byte, 1)); n > 0 || err != io.EOF {
			return fmt.Errorf("%d bytes, %v, want close_notify", n, err)
		}
		return nil
	})
}

// Two restarts under load of WebSocket, with TLS and without, refuse and reset no connection. Sessions from before go on, and end with the
// close code of a server that goes away.
func TestRestartRefusesNobodyOverWebSocket(t *testing.T) {
	reap(t)
	for _, scheme := range []string{"ws", "wss"} {
		t.Run(scheme, func(t *testing.T) {
			args := []string{"-addr", "127.0.0.1:0", "-drain", "1m", "-ws", "/ws"}
			if scheme == "wss" {
				args = append(args, "-tls-self-signed")
			}
			p := spawn(t, args...)
			var config *tls.Config
			if scheme == "wss" {
				config = pinning(t, p.logged())
			}
			dial := func() (net.Conn, error) {
				wire, err := net.DialTimeout(p.addr().Network(), p.addr().String(), patience)
				if err != nil {
					return nil, err
				}
				if err := wire.SetDeadline(time.Now().Add(patience)); err != nil {
					return nil, err
				}
				if config != nil {
					wire = secured{tls.Client(wire, config), wire.(stream)}
				}
				c, err := wsconn.Client(wire, websocket.Options{}, scheme+"://localhost/ws", nil)
				if err != nil {
					return nil, errors.Join(err, wire.Close())
				}
				return c, nil
			}
			wantCode := func(c net.Conn, code int) error {
				n, err := c.Read(make([]byte, 1))
				var word *session.CloseError
				if n > 0 || err != io.EOF || !errors.As(c.(*wsconn.Conn).Word(), &word) || word.Code != code {
					return fmt.Errorf("%d bytes, %v, the close frame %v, want the code %d", n, err, c.(*wsconn.Conn).Word(), code)
				}
				return nil
			}
			load := startChurn(t, 6, func(int, int) error {
				c, err := dial()
				if err != nil {
					return err
				}
				defer c.Close()
				if err := echoed(c); err != nil {
					return err
				}
				if err := c.(*wsconn.Conn).CloseWrite(); err != nil {
					return err
				}
				return wantCode(c, 1000)
			})
			restartUnderLoad(t, p, load, dial, func(c net.Conn) error { return wantCode(c, 1001) })
		})
	}
}
