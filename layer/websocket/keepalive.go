package websocket

import "time"

// The clock of a layer. Only Expire tells the time, so the first deadline is the earliest there is: session asks for it, calls Expire, and
// the interval begins. Then at is when the next ping is due or, with pongMissing, when the pong must have come.

// startNow is a deadline that has passed on any clock.
const startNow = time.Duration(1)

// NextAt returns when Expire has something to do, 0 for never.
func (l *Layer) NextAt() time.Duration {
	if l.config.PingInterval < 0 || !l.is(established) || l.is(finished) || l.failure != nil {
		return 0
	}
	if !l.is(clockRuns) {
		return startNow
	}
	return l.at
}

// Expire sends a ping, or returns an error that matches session.ErrIdle because the pong did not come. The time for the pong begins anew
// while the ping itself has not left, and as long as bytes of a message come: a peer may send its pong behind it.
func (l *Layer) Expire(now time.Duration) error {
	at := l.NextAt()
	switch {
	case at == 0 || now < at:
	case !l.is(clockRuns):
		l.set(clockRuns)
		l.at = now + l.config.PingInterval
	case !l.is(pongMissing):
		l.unset(progress)
		l.pings++
		l.due |= duePing
		if l.config.PongTimeout < 0 {
			l.at = now + l.config.PingInterval
			break
		}
		l.set(pongMissing)
		l.at = now + l.config.PongTimeout
	case l.due&duePing != 0 || l.is(progress):
		l.unset(progress)
		l.at = now + l.config.PongTimeout
	default:
		return errNoPong
	}
	return nil
}

// Postpone begins the time for a pong anew, if it is over at now. It is for a session that has not read for a while, so that the pong may
// have come, or whose peer still takes what stands before the ping: a caller asks itself before it calls Expire. A ping that is due is made: it
// blames nobody, and a deadline that has passed and stays would be told of again at once, without end.
func (l *Layer) Postpone(now time.Duration) {
	switch {
	case !l.is(pongMissing):
		_ = l.Expire(now) // it fails only for a missing pong
	case l.at <= now:
		l.at = now + l.config.PongTimeout
	}
}

// pongCame notes the pong. at is when it was due, PongTimeout after the ping; the next ping is PingInterval after that one.
func (l *Layer) pongCame() {
	l.unset(pongMissing)
	l.at = max(startNow, l.at-l.config.PongTimeout+l.config.PingInterval)
}
