package engine

import (
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/servercore-go/servercore/internal/reactor"
)

// socketOption is an option of a socket and the value that it gets.
type socketOption struct {
	name                 string
	level, number, value int
}

const (
	// defaultNotSent is the default of Options.NotSentLowWater. docs/decisions/0025 has the measurements.
	defaultNotSent = 256 << 10

	// boundedSendBuffer is the send buffer, in bytes, where nothing else bounds what the kernel holds for a peer that does not read.
	boundedSendBuffer = 256 << 10
)

// tuning returns what Options ask of each TCP socket that listens or connects, and of each connection. Linux and FreeBSD hand a
// listener's options down to accepted connections. SO_REUSEADDR comes from package net.
func (o *Options) tuning() []socketOption {
	list := []socketOption{
		{"TCP_NODELAY", unix.IPPROTO_TCP, unix.TCP_NODELAY, 1},
		{"SO_KEEPALIVE", unix.SOL_SOCKET, unix.SO_KEEPALIVE, 0},
	}
	if o.KeepAlive > 0 {
		list[1].value = 1
		list = append(list,
			socketOption{"TCP_KEEPIDLE", unix.IPPROTO_TCP, tcpKeepIdle, seconds(o.KeepAlive)},
			socketOption{"TCP_KEEPINTVL", unix.IPPROTO_TCP, tcpKeepInterval, seconds(o.KeepAliveInterval)},
			socketOption{"TCP_KEEPCNT", unix.IPPROTO_TCP, tcpKeepCount, o.KeepAliveCount})
	}
	if o.SendBuffer > 0 {
		list = append(list, sendBuffer(o.SendBuffer))
	}
	if o.NotSentLowWater > 0 && reactor.NotSentLowWater != 0 {
		list = append(list, socketOption{notSentName, unix.IPPROTO_TCP, reactor.NotSentLowWater, o.NotSentLowWater})
	}
	return append(list, userTimeout(o.UserTimeout)...)
}

// notSentName is the name of the option behind Options.NotSentLowWater.
const notSentName = "TCP_NOTSENT_LOWAT"

func sendBuffer(size int) socketOption {
	return socketOption{"SO_SNDBUF", unix.SOL_SOCKET, unix.SO_SNDBUF, size}
}

// prepareSocket has package net prepare a socket it has made, before it listens or connects.
func (e *Engine) prepareSocket(network, _ string, raw syscall.RawConn) error {
	if !strings.HasPrefix(network, "tcp") {
		return nil
	}
	return raw.Control(func(fd uintptr) { e.tune(int(fd)) })
}

// tune sets what Options ask for. A system or a sandbox may refuse an option: it is done without, and a warning says so once. Without
// TCP_NOTSENT_LOWAT a send buffer of the default size bounds what the kernel holds, unless Options have another.
func (e *Engine) tune(fd int) {
	for _, o := range e.tuning {
		err := e.setsockopt(fd, o.level, o.number, o.value)
		if err == nil {
			continue
		}
		e.noteRefusal(fd, o, err)
		if o.name == notSentName && e.options.SendBuffer == 0 {
			b := sendBuffer(boundedSendBuffer)
			_ = e.setsockopt(fd, b.level, b.number, b.value)
		}
	}
}

// noteRefusal warns, once for each option, unless the connection has broken: the BSDs refuse every option then.
func (e *Engine) noteRefusal(fd int, o socketOption, err error) {
	if err == unix.EINVAL && !inheritsOptions {
		return
	}
	if _, known := e.refusal.LoadOrStore(o.name, true); !known {
		e.log.Warn("the system refuses a socket option; the engine does without it", "option", o.name, "value", o.value, "err", err)
	}
}

// setAccepted gives an accepted connection what it may not have inherited, and takes from it what it should not have. Nobody
// misses a neutral option that the system does not know: then it cannot have been set.
func (e *Engine) setAccepted(fd int, network string, shared bool) {
	if shared {
		for _, o := range neutral {
			if network != "unix" || o.level == unix.SOL_SOCKET {
				_ = unix.SetsockoptInt(fd, o.level, o.number, o.value)
			}
		}
	}
	if network != "unix" {
		e.tune(fd)
	}
}

// neverWait sees to it that close(2) does not wait for the peer, nor resets the connection: a connection inherits SO_LINGER from a
// socket that others have set it on.
func neverWait(fd int) {
	_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{})
}

// seconds rounds up: an option of 0 would mean the system's default.
func seconds(d time.Duration) int { return int((d + time.Second - 1) / time.Second) }
