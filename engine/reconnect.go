package engine

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"time"

	"github.com/servercore-go/servercore/frame"
	"github.com/servercore-go/servercore/layer/websocket"
	"github.com/servercore-go/servercore/session"
)

// Policy says how a connection that was lost is dialled again. The zero value of each field means its default. The
// delays are gRPC's (https://github.com/grpc/grpc/blob/master/doc/connection-backoff.md), fields and defaults too, but
// that the first one is randomized as well, for clients that lost their server all at once.
type Policy struct {
	// BaseDelay is the delay before the first attempt, at least 1 ms. Whatever the policy, an attempt is never made sooner than
	// 10 ms after a loss, or after the attempt before. Default: 1 s.
	BaseDelay time.Duration

	// Multiplier is the factor from one delay to the next, at least 1. Default: 1.6.
	Multiplier float64

	// Jitter is the part of a delay by which it is randomized, up and down, at most 1. Default: 0.2. Negative: off.
	Jitter float64

	// MaxDelay bounds the delays, before Jitter. Default: 120 s, or BaseDelay if that is more.
	MaxDelay time.Duration

	// MaxAttempts is after how many attempts in a row it is given up, and logged. Attempts are in a row as long as the
	// delays grow: none of their sessions, if they brought any, lasted. Default: no bound.
	MaxAttempts int

	// Timeout bounds each attempt, until there is a session: not its OnConnected. At least 1 ms. Default: 20 s.
	Timeout time.Duration

	// Context ends the reconnecting when it ends: nothing is dialled any more, also in the midst of a delay. A session
	// that is open stays so. Default: context.Background().
	Context context.Context
}

// Reconnect is an option of Dial: whenever the session is lost, the address is dialled again, after a delay that grows with
// every attempt, and f makes a new session. Only the callbacks of that session tell of it. The delays begin anew with BaseDelay after
// a session that lasted as long as the delay that would come next. Dial itself makes the first connection and returns
// its error, without another attempt. Attempts that fail, a factory that fails included, are counted in
// Stats.DialErrors and logged.
//
// A session is lost if the first reason of its Err is that the peer closed or reset the connection, with TLS or WebSocket also without
// saying so (session.ErrPeerClosed, ErrPeerReset, ErrTruncated), took or sent nothing for too long (ErrSendLimit, ErrIdle, ErrWriteStall), sent
// too fast (ErrRecvRate), what is no packet (frame.ErrTooLarge, frame.ErrMalformed) or against the protocol of WebSocket or TLS, or that a
// callback panicked (session.ErrPanic). A session that the handler ends, by Disconnect, DisconnectWith or Abort, is not: nothing follows it. A
// handler that wants another connection ends its session by DisconnectWith with one of those reasons. What also ends it all:
// Policy.MaxAttempts, Policy.Context, and the end of the engine. Once the peer's FIN has been seen the session is lost, whatever the
// handler asks for then but Abort: Policy.Context is for that. A handler with OnHalfClose goes on after the FIN, and still decides.
//
// A session that is open has no goroutine or timer for this; one that is being replaced has a goroutine.
func Reconnect(p Policy) Option {
	p, err := p.withDefaults()
	return func(o *origin) error {
		o.policy = &p
		return err
	}
}

func (p Policy) withDefaults() (Policy, error) {
	switch {
	case p.BaseDelay != 0 && p.BaseDelay < minDelay:
		return p, fmt.Errorf("Policy.BaseDelay is %v, want at least %v, or 0 for 1s (a number without a unit is nanoseconds)",
			p.BaseDelay, minDelay)
	case p.Multiplier != 0 && !(p.Multiplier >= 1):
		return p, fmt.Errorf("Policy.Multiplier is %v, want at least 1, or 0 for 1.6", p.Multiplier)
	case !(p.Jitter <= 1):
		return p, fmt.Errorf("Policy.Jitter is %v, want at most 1, 0 for 0.2, or negative for off", p.Jitter)
	case p.MaxAttempts < 0:
		return p, fmt.Errorf("Policy.MaxAttempts is %d, want 1 or more, or 0 for no bound", p.MaxAttempts)
	case p.Timeout != 0 && p.Timeout < minDelay:
		return p, fmt.Errorf("Policy.Timeout is %v, want at least %v, or 0 for 20s (a number without a unit is nanoseconds)",
			p.Timeout, minDelay)
	}
	if p.BaseDelay == 0 {
		p.BaseDelay = time.Second
	}
	if p.MaxDelay == 0 {
		p.MaxDelay = max(120*time.Second, p.BaseDelay)
	}
	if p.MaxDelay < p.BaseDelay {
		return p, fmt.Errorf("Policy.MaxDelay is %v, want at least BaseDelay (%v), or 0 for 120s", p.MaxDelay, p.BaseDelay)
	}
	p.BaseDelay, p.MaxDelay = min(p.BaseDelay, maxTimeout), min(p.MaxDelay, maxTimeout)
	if p.Multiplier == 0 {
		p.Multiplier = 1.6
	}
	if p.Jitter == 0 {
		p.Jitter = 0.2
	}
	if p.Timeout == 0 {
		p.Timeout = 20 * time.Second
	}
	if p.Context == nil {
		p.Context = context.Background()
	}
	return p, nil
}

// delay returns what follows n other delays, before jitter.
func (p *Policy) delay(n int) time.Duration {
	d := float64(p.BaseDelay)
	for ; n > 0 && d < float64(p.MaxDelay) && p.Multiplier > 1; n-- {
		d *= p.Multiplier
	}
	return time.Duration(min(d, float64(p.MaxDelay)))
}

// after returns how many delays count when a session has lasted so long.
func (p *Policy) after(delays int, lasted time.Duration) int {
	if lasted >= p.delay(delays) {
		return 0
	}
	return delays
}

const (
	minDelay = time.Millisecond      // less is a mistake: a duration without its unit
	minPause = 10 * time.Millisecond // a hundred attempts a second hurt nobody
)

// randomize applies the jitter, down to minPause at most; chance is in [0, 1).
func (p *Policy) randomize(d time.Duration, chance float64) time.Duration {
	return max(time.Duration(float64(d)*(1+max(p.Jitter, 0)*(2*chance-1))), minPause)
}

// link is a Dial with Reconnect: one session after another. It belongs to the goroutine that restores it; handed to
// a loop with a pending connection, to that loop; and when the session is lost, to another such goroutine.
type link struct {
	engine  *Engine
	origin  *origin
	address string

	since  time.Duration // when the last session began
	delays int           // how many there were since they began anew
}

// lost is called when the session has ended.
func (l *link) lost(d *session.Driver) {
	if l.engine.stopping() || !again(d) {
		return
	}
	l.delays = l.origin.policy.after(l.delays, l.engine.now()-l.since)
	go l.restore()
}

// again reports whether a session has ended that the handler wanted to keep.
func again(d *session.Driver) bool {
	if errors.Is(d.Session().Err(), session.ErrAborted) { // by the handler, while the session was ending
		return false
	}
	first := d.Reason()
	for _, reason := range []error{session.ErrPeerClosed, session.ErrPeerReset, session.ErrSendLimit, session.ErrIdle,
		session.ErrTruncated, session.ErrWriteStall, session.ErrRecvRate, session.ErrPanic, frame.ErrTooLarge, frame.ErrMalformed} {
		if errors.Is(first, reason) {
			return true
		}
	}
	return isLayerFault(first)
}

// isLayerFault reports whether a session has ended because its peer did not keep to WebSocket or TLS.
func isLayerFault(reason error) bool {
	var message *websocket.ProtocolError
	var record *net.OpError // of crypto/tls, which says with it who has sent an alert
	return errors.As(reason, &message) || errors.As(reason, &record) && (record.Op == "local error" || record.Op == "remote error")
}

// restore dials until there is a session, which has l then, or no hope.
func (l *link) restore() {
	e, p := l.engine, l.origin.policy
	for p.MaxAttempts == 0 || l.delays < p.MaxAttempts {
		delay := p.randomize(p.delay(l.delays), rand.Float64())
		l.delays++
		if !l.rest(delay) {
			return
		}
		ctx, cancel := context.WithTimeout(p.Context, p.Timeout)
		_, err := e.attempt(ctx, l.origin, l.address, &attempt{link: l, follows: true})
		cancel()
		if err == nil || e.stopping() || p.Context.Err() != nil {
			return
		}
		e.log.Limited(reconnectLine, "reconnecting failed", "err", err, "remote", l.address, "attempt", l.delays)
	}
	e.log.Limited(giveUpLine, "reconnecting given up: MaxAttempts reached", "remote", l.address, "attempts", l.delays)
}

// rest waits, and tells whether to go on.
func (l *link) rest(d time.Duration) bool {
	if l.engine.beginDial("Dial") != nil {
		return false
	}
	defer l.engine.dials.Done()
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-l.engine.life.Done():
	case <-l.origin.policy.Context.Done():
	}
	return false
}
