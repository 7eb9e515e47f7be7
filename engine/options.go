package engine

import (
	"fmt"
	"log/slog"
	"runtime"
	"time"

	"github.com/servercore-go/servercore/internal/budget"
	"github.com/servercore-go/servercore/internal/reactor"
	"github.com/servercore-go/servercore/session"
)

// SlowPeer says what happens when a Send would pass Options.SendLimit.
type SlowPeer uint8

const (
	// RefuseSend refuses that Send with session.ErrSendLimit; the session goes on.
	RefuseSend SlowPeer = iota
	// EndSession refuses it and ends the session with a reset and session.ErrSendLimit as the reason.
	EndSession
)

// Options configure an engine. The zero value of each field means its default; a negative limit or timeout
// means off. Durations are kept to within about 20 ms.
type Options struct {
	// Loops is the number of event loops, each with a goroutine of its own. Default: GOMAXPROCS.
	Loops int

	// MaxSessions bounds the open sessions, those still being drained or dialled included. A connection above it is
	// accepted and closed at once; Dial returns ErrFull. Default: what the descriptor limit (RLIMIT_NOFILE) allows at Start, less
	// what is in use and a reserve of a tenth, at least 8 + Loops and at most 64 + Loops. More than that is lowered to it,
	// and Start warns; Stats has the bound in force. If it leaves no room at all, Start returns an error. Off: only
	// descriptors running out bounds them.
	MaxSessions int

	// SendLimit bounds the bytes one session may have queued, what frames add included. The memory that holds them is bounded with it,
	// whatever is sent and by whichever method: a quarter more and 16 KiB at the most, a sixteenth more as a rule. Default:
	// 1 MiB. Off: no bound.
	SendLimit int

	// SlowPeer is what a Send over SendLimit does. Default: RefuseSend.
	SlowPeer SlowPeer

	// SoftLimit and SoftLimitFor end a session that is slow for long (Redis' soft limit): one that has more than SoftLimit
	// bytes queued for SoftLimitFor without a break is ended with a reset, and Err matches session.ErrSendLimit. SoftLimit
	// must be below SendLimit. Whether SlowPeer ends sessions at SendLimit as well makes no difference. Defaults: off,
	// and 10 s.
	SoftLimit    int
	SoftLimitFor time.Duration

	// HighWater and LowWater are the numbers of queued bytes, or of Session.Pending if that is more, at which a handler that has OnWritable
	// (session.Writability) is told to wait, above the first, and to go on, below the second. HighWater must be below SendLimit, LowWater not
	// above HighWater. HighWater's default is PauseAbove, or PauseAbove's default if that is off; LowWater's is half of HighWater.
	// HighWater off: nobody is told.
	HighWater int
	LowWater  int

	// SendBudget bounds the memory of what is queued in all sessions together (Stats.Queued), in bytes; what sessions share, such as a
	// message to a Group, is charged once. A Send for which there is no room is refused with session.ErrSendBudget, and its session
	// goes on. A session whose peer does not take what it is offered has no room from 7/8 of the budget on, and any other
	// session above 17/16: that is the bound, but for 64 KiB per loop that a callback has sent and the kernel has not taken.
	// When room is short, stuck sessions are reset, those first whose end frees most, until 3/4 of the budget are used; Err matches
	// session.ErrSendBudget and with it ErrSendLimit. A session is stuck if its peer has left bytes waiting and taken less than 64 KiB for
	// 250 ms. SendBudget must not be below SendLimit. Default: off.
	SendBudget int

	// PauseAbove is the number of queued bytes above which a session is not read, until less than half of it
	// is queued. It must be below SendLimit. Default: 256 KiB, or a quarter of SendLimit if that is less. Off: a
	// session is read however much is queued.
	PauseAbove int

	// IdleTimeout ends a session with session.ErrIdle when nothing was received for so long while nothing was
	// waiting to be sent. Default: off.
	IdleTimeout time.Duration

	// FirstByteTimeout ends a session with session.ErrIdle when not one byte was received so long after
	// accept, or after the dial. Default: off.
	FirstByteTimeout time.Duration

	// HandshakeTimeout is how long the handshakes of layers (Layered) may take together, from accept, or from the PROXY header, or when
	// Dial has connected. Default: 10 s. Off: as long as the peer likes.
	HandshakeTimeout time.Duration

	// WriteTimeout ends a session with session.ErrWriteStall and a reset when bytes are queued and for so long the kernel took none
	// and the peer acknowledged none, or less than 240 bytes a second on average. Make it and
	// UserTimeout longer for lines that stall for 10 s now and then. Default: 10 s.
	WriteTimeout time.Duration

	// HalfCloseTimeout ends a session whose peer has finished and whose handler goes on (session.HalfCloser), when it was sent
	// nothing for so long and its peer took nothing either: with session.ErrIdle, in order. Default: IdleTimeout, or a minute if that
	// is off. Off: until the handler ends it.
	HalfCloseTimeout time.Duration

	// DrainTimeout is how long the peer of a session that ends, by its own FIN too, may take nothing of what it was sent, or next to
	// nothing: less than 240 bytes a second on average. Then comes a reset, and Err matches session.ErrDrainTimeout. What counts is
	// what the peer's system acknowledges: a peer that takes more is waited for, however long it takes. Of a unix socket Linux tells that
	// only when all of a piece was read, of up to 64 KiB as it was written: there a peer must read one in that time. Run gives the
	// whole engine as long to shut down. Default: 10 s.
	DrainTimeout time.Duration

	// LingerTimeout is how long input is read and discarded before the connection is closed, from when the peer has acknowledged
	// everything, our FIN included. A session that is paused (PauseRecv) when its connection fails has as long to resume, and to get what was
	// received before. Default: 2 s. Off: until the peer closes; a paused session then has DrainTimeout.
	LingerTimeout time.Duration

	// KeepAlive is after how much silence TCP begins to probe the peer, KeepAliveInterval the time between
	// probes, KeepAliveCount how many may go unanswered before the connection is given up. Whole seconds.
	// Defaults: 15 s, 5 s, 3. KeepAlive off: no probes.
	KeepAlive         time.Duration
	KeepAliveInterval time.Duration
	KeepAliveCount    int

	// UserTimeout is how long sent bytes may stay unacknowledged, or a peer may keep its window shut while the kernel holds bytes for it,
	// before TCP gives the connection up (TCP_USER_TIMEOUT, Linux only). Linux lets it override the count of probes. Default: what the
	// keep-alive takes to notice, KeepAlive + KeepAliveCount * KeepAliveInterval (30 s), or longer if KeepAlive is: 8/7 of the time to the
	// last probe, as the kernel's timers may be an eighth late (697 s if KeepAlive is 10 minutes). A
	// shorter one also ends a session whose peer is silent for the first probe that is not answered. Off: the kernel's retransmission limit,
	// about 15 minutes.
	UserTimeout time.Duration

	// SendBuffer is the kernel's send buffer per connection in bytes (SO_SNDBUF; Linux doubles it for its own accounting and caps it at
	// net.core.wmem_max). It holds what was sent and is not acknowledged, so a connection carries at most about twice SendBuffer in a round
	// trip. Default: the kernel fits it to each TCP connection's line, up to the third value of net.ipv4.tcp_wmem, 4 MiB on most systems, and
	// NotSentLowWater bounds what a peer that does not read can pin outside the engine. Where the system has no TCP_NOTSENT_LOWAT, as on
	// FreeBSD, the default is 256 KiB. Off: the kernel fits it in any case.
	SendBuffer int

	// NotSentLowWater is how many bytes the kernel may hold for a TCP connection that it has not sent yet, because of the line or the peer's
	// window (TCP_NOTSENT_LOWAT; Linux and macOS). Linux takes up to 64 KiB more, and asks for more bytes below half of it. It does
	// not count what is sent and not acknowledged. Default: 256 KiB. Off: as much as the send buffer has room for.
	NotSentLowWater int

	// StallWarning is how long a callback may hold its loop before that is logged, once, with the session and the
	// stack, and counted (LoopStats.Stalls). Nobody is held up for the stack; in a process of more than 131,072 goroutines
	// there is none. Callbacks on workers (Offload) may take any time. Default: 100 ms. Off: nobody
	// looks, Timings has nothing, and LoopStats.Lag is measured once a second.
	StallWarning time.Duration

	// KeepClosed is how many ended sessions Engine.Closed remembers, some 200 bytes each. Default: 1,000. Off: none.
	KeepClosed int

	// Trace is told what happens to connections and loops. Default: nobody is, and nothing is paid.
	Trace *Trace

	// Logger receives what the engine has to say; nothing on the byte path. Attributes, as they apply: session, remote, loop, listener,
	// err, and what is special to the line. Its handler runs on a goroutine that does nothing else, so it may take its time and may call
	// the engine. If it blocks, 256 records wait; more are dropped and counted (Stats.LogDropped, and "dropped" in the next record that is
	// written). Run, Shutdown and Close wait a tenth of a second for the last records, not longer. Default: slog.Default() at New.
	Logger *slog.Logger
}

// withDefaults fills in the defaults and refuses what cannot work, naming the field.
func (o Options) withDefaults() (Options, error) {
	fill := func(field *int, value int) {
		if *field == 0 {
			*field = value
		}
	}
	fillTime := func(field *time.Duration, value time.Duration) {
		if *field == 0 {
			*field = value
		}
	}
	if o.Loops < 0 || o.Loops > maxLoops {
		return o, fmt.Errorf("engine: Options.Loops is %d, want 1 to %d, or 0 for GOMAXPROCS", o.Loops, maxLoops)
	}
	fill(&o.Loops, min(runtime.GOMAXPROCS(0), maxLoops))
	fill(&o.SendLimit, 1<<20)
	switch {
	case o.SendLimit >= 2:
		fill(&o.PauseAbove, min(256<<10, max(o.SendLimit/4, 1)))
	case o.SendLimit > 0:
		fill(&o.PauseAbove, -1) // there is no room for it
	}
	fill(&o.PauseAbove, 256<<10)
	if o.SendLimit > 0 && o.PauseAbove >= o.SendLimit {
		return o, fmt.Errorf("engine: Options.PauseAbove is %d bytes, want less than SendLimit (%d), or negative for off",
			o.PauseAbove, o.SendLimit)
	}
	fillTime(&o.SoftLimitFor, 10*time.Second)
	if o.SendLimit > 0 && o.SoftLimit >= o.SendLimit {
		return o, fmt.Errorf("engine: Options.SoftLimit is %d bytes, want less than SendLimit (%d), or 0 for off",
			o.SoftLimit, o.SendLimit)
	}
	switch {
	case o.PauseAbove > 0:
		fill(&o.HighWater, o.PauseAbove)
	case o.SendLimit >= 4:
		fill(&o.HighWater, min(256<<10, o.SendLimit/4))
	case o.SendLimit > 0:
		fill(&o.HighWater, -1) // there is no room for marks
	}
	fill(&o.HighWater, 256<<10)
	if o.SendLimit > 0 && o.HighWater >= o.SendLimit {
		return o, fmt.Errorf("engine: Options.HighWater is %d bytes, want less than SendLimit (%d), or negative for off",
			o.HighWater, o.SendLimit)
	}
	fill(&o.LowWater, max(o.HighWater/2, 1))
	if o.HighWater > 0 && (o.LowWater < 1 || o.LowWater > o.HighWater) {
		return o, fmt.Errorf("engine: Options.LowWater is %d bytes, want 1 to HighWater (%d)", o.LowWater, o.HighWater)
	}
	if o.SendBudget > 0 && o.SendBudget < o.SendLimit {
		return o, fmt.Errorf("engine: Options.SendBudget is %d bytes, want at least SendLimit (%d), or 0 for off",
			o.SendBudget, o.SendLimit)
	}
	if o.SlowPeer > EndSession {
		return o, fmt.Errorf("engine: Options.SlowPeer is %d, want RefuseSend or EndSession", o.SlowPeer)
	}
	fillTime(&o.HandshakeTimeout, 10*time.Second)
	fillTime(&o.WriteTimeout, 10*time.Second)
	fillTime(&o.HalfCloseTimeout, max(o.IdleTimeout, 0))
	fillTime(&o.HalfCloseTimeout, time.Minute)
	fillTime(&o.DrainTimeout, 10*time.Second)
	fillTime(&o.LingerTimeout, 2*time.Second)
	fillTime(&o.StallWarning, 100*time.Millisecond)
	fill(&o.KeepClosed, 1000)
	if o.KeepClosed > maxKeepClosed {
		return o, fmt.Errorf("engine: Options.KeepClosed is %d, want at most %d", o.KeepClosed, maxKeepClosed)
	}
	if o.StallWarning > 0 && o.StallWarning < minStallWarning {
		return o, fmt.Errorf("engine: Options.StallWarning is %v, want %v or more, or negative for off", o.StallWarning, minStallWarning)
	}
	fillTime(&o.KeepAlive, 15*time.Second)
	fillTime(&o.KeepAliveInterval, 5*time.Second)
	fill(&o.KeepAliveCount, 3)
	for _, f := range []struct {
		name  string
		value time.Duration
	}{{"KeepAlive", o.KeepAlive}, {"KeepAliveInterval", o.KeepAliveInterval}} {
		if f.value > 0 && (f.value < time.Second || f.value > maxKeepAlive) || f.value < 0 && f.name != "KeepAlive" {
			return o, fmt.Errorf("engine: Options.%s is %v, want 1s to %v", f.name, f.value, maxKeepAlive)
		}
	}
	if o.KeepAliveCount < 1 || o.KeepAliveCount > maxKeepAliveCount {
		return o, fmt.Errorf("engine: Options.KeepAliveCount is %d, want 1 to %d", o.KeepAliveCount, maxKeepAliveCount)
	}
	if o.KeepAlive > 0 {
		fillTime(&o.UserTimeout, o.vanishTime())
	}
	fillTime(&o.UserTimeout, 30*time.Second)
	if reactor.NotSentLowWater == 0 {
		fill(&o.SendBuffer, boundedSendBuffer)
	}
	fill(&o.NotSentLowWater, defaultNotSent)
	for _, f := range []struct {
		name  string
		value int
	}{{"SendBuffer", o.SendBuffer}, {"NotSentLowWater", o.NotSentLowWater}} {
		if f.value > 1<<30 {
			return o, fmt.Errorf("engine: Options.%s is %d bytes, want at most 1 GiB", f.name, f.value)
		}
	}
	for _, f := range []*time.Duration{&o.IdleTimeout, &o.FirstByteTimeout, &o.HalfCloseTimeout, &o.HandshakeTimeout, &o.WriteTimeout, &o.DrainTimeout, &o.LingerTimeout, &o.SoftLimitFor} {
		*f = min(*f, maxTimeout)
	}
	o.UserTimeout = min(o.UserTimeout, maxUserTimeout)
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return o, nil
}

// vanishTime is the time of silence after which TCP gives up a peer that answers no probe: long enough that KeepAliveCount of them have been sent and had
// their time. Linux looks at TCP_USER_TIMEOUT where it would send the next probe (tcp_keepalive_timer), and its timers are late by up to an
// eighth of their time (kernel/time/timer.c, granularity of the wheel's levels): with 10 minutes and 3 x 5 s the first look may come after 675 s, so that a
// limit of 615 s would end a session for the first probe that is lost. (That eighth is 8/63 at most; a seventh leaves room for a machine that is busy.)
func (o Options) vanishTime() time.Duration {
	last := o.KeepAlive + time.Duration(o.KeepAliveCount-1)*o.KeepAliveInterval
	return max(last+o.KeepAliveInterval, last+last/7)
}

const (
	maxLoops          = 256                 // what gnet can number
	maxKeepAlive      = 32767 * time.Second // MAX_TCP_KEEPIDLE and MAX_TCP_KEEPINTVL of Linux
	maxKeepAliveCount = 127                 // MAX_TCP_KEEPCNT of Linux
	maxKeepClosed     = 1_000_000
	minStallWarning   = 10 * time.Millisecond
	maxUserTimeout    = (1<<31 - 1) * time.Millisecond // an int of the kernel's has it
	maxTimeout        = 100 * 365 * 24 * time.Hour     // no deadline overflows
)

// Limits checks the options, and returns those that bound a session, defaults filled in. Each call makes a budget of its own if there is a
// SendBudget. It is for event loops other than the engine's, such as those of package ongnet.
func (o Options) Limits() (session.Limits, error) {
	o, err := o.withDefaults()
	if err != nil {
		return session.Limits{}, err
	}
	limits := o.limits()
	if o.SendBudget > 0 {
		limits.Budget = budget.New(o.SendBudget)
	}
	return limits, nil
}

func (o Options) limits() session.Limits {
	return session.Limits{
		SendLimit:  o.SendLimit,
		PauseAbove: o.PauseAbove,
		EndSlow:    o.SlowPeer == EndSession,
		SoftLimit:  o.SoftLimit,
		SoftFor:    o.SoftLimitFor,
		HighWater:  o.HighWater,
		LowWater:   o.LowWater,
		Idle:       o.IdleTimeout,
		FirstByte:  o.FirstByteTimeout,
		HalfClose:  o.HalfCloseTimeout,
		Write:      o.WriteTimeout,
		Drain:      o.DrainTimeout,
		Linger:     o.LingerTimeout,
	}
}
