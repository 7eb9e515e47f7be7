package enginetest

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/servercore-go/servercore/engine"
	kit "github.com/servercore-go/servercore/internal/enginekit"
	"github.com/servercore-go/servercore/session"
)

// reasons are the ends of sessions, each with what Err matches, and nothing else.
func reasons() (list []promise) {
	mine := errors.New("mine")
	short := 100 * time.Millisecond
	fill := func(p *kit.Session) { // with more than the kernel takes
		for p.Send(kit.Stream()[:256<<10]) == nil {
		}
	}
	wait := func(testing.TB, *server, net.Conn) {}
	connected := func(f func(p *kit.Session)) kit.Hooks { return kit.Hooks{Connected: f} }
	for _, tt := range []struct {
		name    string
		options engine.Options
		hooks   kit.Hooks
		act     func(testing.TB, *server, net.Conn)
		reasons []error
		needs   trait
	}{
		{"the peer closed", engine.Options{}, kit.Hooks{}, func(t testing.TB, _ *server, c net.Conn) { kit.Must(t, c.Close()) },
			[]error{session.ErrPeerClosed, io.EOF}, 0},
		{"the peer reset", engine.Options{}, kit.Hooks{}, func(t testing.TB, _ *server, c net.Conn) { kit.Reset(t, c) },
			[]error{session.ErrPeerReset, syscall.ECONNRESET}, resets},
		{"Disconnect", engine.Options{LingerTimeout: short}, connected(func(p *kit.Session) { p.Disconnect() }), wait, []error{session.ErrDisconnected}, 0},
		{"DisconnectWith nothing", engine.Options{LingerTimeout: short}, connected(func(p *kit.Session) { p.DisconnectWith(nil) }), wait,
			[]error{session.ErrDisconnected}, 0},
		{"a reason given", engine.Options{LingerTimeout: short}, connected(func(p *kit.Session) { p.DisconnectWith(fmt.Errorf("because: %w", mine)) }),
			wait, []error{mine}, 0},
		{"Abort", engine.Options{}, connected(func(p *kit.Session) { p.Abort() }), wait, []error{session.ErrAborted}, 0},
		{"the first of several stands", engine.Options{}, connected(func(p *kit.Session) { p.DisconnectWith(mine); p.Disconnect(); p.Abort() }), wait,
			[]error{mine, session.ErrAborted}, 0},
		{"the send limit", engine.Options{SlowPeer: engine.EndSession}, connected(fill), wait, []error{session.ErrSendLimit}, 0},
		{"nothing received for long", engine.Options{IdleTimeout: short, LingerTimeout: short}, kit.Hooks{}, wait,
			[]error{session.ErrIdle, os.ErrDeadlineExceeded}, 0},
		{"no first byte", engine.Options{FirstByteTimeout: short, LingerTimeout: short}, kit.Hooks{}, wait,
			[]error{session.ErrIdle, os.ErrDeadlineExceeded}, 0},
		{"a stalled write", engine.Options{WriteTimeout: short, SendLimit: 16 << 20}, connected(fill), wait,
			[]error{session.ErrWriteStall, os.ErrDeadlineExceeded}, 0},
		{"not drained in time", engine.Options{DrainTimeout: short, SendLimit: 16 << 20}, connected(func(p *kit.Session) { fill(p); p.Disconnect() }), wait,
			[]error{session.ErrDisconnected, session.ErrDrainTimeout, os.ErrDeadlineExceeded}, 0},
		{"a panic", engine.Options{}, connected(func(*kit.Session) { panic("on purpose") }), wait, []error{session.ErrPanic}, 0},
		{"Shutdown", engine.Options{LingerTimeout: short}, kit.Hooks{}, func(t testing.TB, s *server, _ net.Conn) { kit.Must(t, s.Shutdown(t.Context())) },
			[]error{session.ErrShutdown}, 0},
		{"Close", engine.Options{}, kit.Hooks{}, func(t testing.TB, s *server, _ net.Conn) { kit.Must(t, s.Close()) },
			[]error{session.ErrShutdown, session.ErrAborted}, 0},
	} {
		list = append(list, promise{"L5", "Err matches the reason and no other: " + tt.name, tt.needs, func(t testing.TB, v *Variant) {
			s := v.serve(t, tt.options, tt.hooks)
			c, p := s.session(s.smallClient())
			tt.act(t, s, c)
			kit.WantError(t, "reason", kit.AwaitEnd(t, p), tt.reasons...)
			for _, other := range sentinels {
				if errors.Is(p.Err(), other) && !slices.ContainsFunc(tt.reasons, func(target error) bool { return errors.Is(other, target) }) {
					t.Errorf("reason %v matches %v", p.Err(), other)
				}
			}
		}})
	}
	return list
}

// sentinels are the reasons that package session has.
var sentinels = []error{session.ErrPeerClosed, session.ErrPeerReset, session.ErrDisconnected, session.ErrAborted, session.ErrSendLimit,
	session.ErrIdle, session.ErrWriteStall, session.ErrDrainTimeout, session.ErrPanic, session.ErrShutdown}
