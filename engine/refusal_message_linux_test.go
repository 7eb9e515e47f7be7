package engine_test

import (
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/servercore-go/servercore/engine"
	kit "github.com/servercore-go/servercore/internal/enginekit"
)

// What has come in already does not turn the refusal's message into a reset: the client's connection has got the FIN and nothing after it. The
// client sees no reset itself on the loopback, where the FIN comes first; its kernel does.
func TestRefusalMessageIsNotReset(t *testing.T) {
	kit.OnLoops(t, func(t *testing.T, loops int) {
		sent := make(chan struct{}, 1)
		s := kit.Serve(t, "tcp", engine.Options{Loops: loops}, kit.Hooks{}, engine.Guard(engine.Rules{RefusalMessage: []byte(goAway)}),
			engine.Admit(func(netip.AddrPort) error { <-sent; return errors.New("no") }))
		for i := range 5 {
			c := s.Client()
			kit.Write(t, c, make([]byte, 30_000))
			sent <- struct{}{}
			refused(t, c, goAway)
			s.WantRefused(engine.Refused{Admit: uint64(i + 1)})
			kit.Eventually(t, "the server has closed it", func() bool { return s.Stats().Sessions == 0 })
			if state := tcpState(t, c); state != closeWait {
				t.Errorf("the client's connection is in state %d, want %d (CLOSE_WAIT): it was reset", state, closeWait)
			}
		}
		// More than is read away: a reset follows, behind the message and its FIN.
		c := s.Client()
		_ = c.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
		_, _ = c.Write(make([]byte, 16<<20))
		sent <- struct{}{}
		refused(t, c, goAway)
	})
}

// closeWait is the state of a connection whose peer has sent its FIN, and no reset.
const closeWait = 8

func tcpState(t *testing.T, c net.Conn) (state uint8) {
	t.Helper()
	raw, err := c.(*net.TCPConn).SyscallConn()
	kit.Must(t, err)
	kit.Must(t, raw.Control(func(fd uintptr) {
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		kit.Must(t, err)
		state = info.State
	}))
	return state
}
