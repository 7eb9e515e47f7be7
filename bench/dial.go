package bench

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A target is where connections go: what an address of a plan stands for. Each worker has its own: a Sockaddr keeps
// the system's form of itself inside and writes it anew at each use.
type target struct {
	family int
	addr   unix.Sockaddr
	// sources are the local addresses, used in turn. Empty: the system's choice.
	sources []unix.Sockaddr
}

func resolve(p *Plan) (*target, error) {
	if path, ok := strings.CutPrefix(p.Addr, "unix:"); ok {
		return &target{family: unix.AF_UNIX, addr: &unix.SockaddrUnix{Name: path}}, nil
	}
	a, err := net.ResolveTCPAddr("tcp", p.Addr)
	if err != nil {
		return nil, fmt.Errorf("bench: address %s: %w", p.Addr, err)
	}
	if len(a.IP) == 0 {
		a.IP = net.IPv4(127, 0, 0, 1)
	}
	v4 := a.IP.To4()
	if v4 == nil {
		to := &unix.SockaddrInet6{Port: a.Port, Addr: [16]byte(a.IP.To16())}
		if a.Zone != "" {
			zone, err := net.InterfaceByName(a.Zone)
			if err != nil {
				return nil, fmt.Errorf("bench: address %s: %w", p.Addr, err)
			}
			to.ZoneId = uint32(zone.Index)
		}
		return &target{family: unix.AF_INET6, addr: to}, nil
	}
	t := &target{family: unix.AF_INET, addr: &unix.SockaddrInet4{Port: a.Port, Addr: [4]byte(v4)}}
	for i := range p.Sources {
		t.sources = append(t.sources, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, byte(2 + i)}})
	}
	return t, nil
}

// clone returns a target that shares nothing with t.
func (t *target) clone() *target {
	c := &target{family: t.family, addr: cloneAddr(t.addr)}
	for _, source := range t.sources {
		c.sources = append(c.sources, cloneAddr(source))
	}
	return c
}

func cloneAddr(a unix.Sockaddr) unix.Sockaddr {
	switch a := a.(type) {
	case *unix.SockaddrInet4:
		return &unix.SockaddrInet4{Port: a.Port, Addr: a.Addr}
	case *unix.SockaddrInet6:
		return &unix.SockaddrInet6{Port: a.Port, Addr: a.Addr, ZoneId: a.ZoneId}
	case *unix.SockaddrUnix:
		return &unix.SockaddrUnix{Name: a.Name}
	}
	panic("bench: unknown kind of address") // resolve makes no other
}

// connect begins a connection; id chooses the source address. It does not wait.
func (t *target) connect(id uint32) (fd int, err error) {
	fd, err = openSocket(t.family)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	if t.family != unix.AF_UNIX {
		err = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	}
	if err == nil && len(t.sources) > 0 {
		err = bindSource(fd, t.sources[int(id)%len(t.sources)])
	}
	if err == nil {
		err = unix.Connect(fd, t.addr)
	}
	if err != nil && err != unix.EINPROGRESS && err != unix.EINTR {
		unix.Close(fd)
		return -1, os.NewSyscallError("connect", err)
	}
	return fd, nil
}

// retryAfter is how long a place rests when a connection could not be made and is wanted all the same.
const retryAfter = int64(10 * time.Millisecond)

// dialMore begins the first connection of the places before upto, a few at a time.
func (w *worker) dialMore(upto int, now int64) {
	for w.dialled < upto && w.dialing < dialsAtOnce && now < w.run.end.Load() {
		c := &w.conns[w.dialled]
		w.dialled++
		w.dial(c)
	}
}

// dial begins the connection of c. A failure is counted.
func (w *worker) dial(c *conn) {
	now := w.run.now() // connecting takes time of its own
	if c.begun == 0 {
		c.begun = now
	}
	fd, err := w.target.connect(c.v.id)
	if err == nil {
		if err = w.poll.add(fd, c.key()); err != nil {
			unix.Close(fd)
		}
	}
	switch {
	case err == nil:
		c.fd, c.state = fd, connecting
		w.dialing++
	case w.target.family == unix.AF_UNIX && errors.Is(err, unix.EAGAIN) && now-c.begun < int64(w.run.plan.Timeout):
		w.pause(c, now) // the listener's queue is full: for a unix socket the system does not wait
	default:
		w.dialFailed(c, err, now)
	}
}

// pause dials c again after a short rest.
func (w *worker) pause(c *conn, now int64) {
	c.rest = now + retryAfter
	w.resting++
}

// redial ends rests.
func (w *worker) redial(now int64) {
	if w.resting == 0 || now < w.nextRedial {
		return
	}
	w.nextRedial = now + retryAfter/2
	for i := range w.conns {
		if c := &w.conns[i]; c.rest != 0 && c.rest <= now {
			c.rest = 0
			w.resting--
			if now < w.run.end.Load() {
				w.dial(c)
			}
		}
	}
}

func (w *worker) dialFailed(c *conn, err error, now int64) {
	c.begun = 0
	kind := classify(err)
	if kind == Timeout {
		kind = ConnectTimeout
	}
	w.error(kind, 1, c, err.Error(), now)
	if kind == NoDescriptors {
		w.run.fail(descriptorAdvice(w.run.plan.total()))
	}
	w.load.ended(w, c, now)
}

// connected looks at a connection whose connect has ended.
func (w *worker) connected(c *conn) {
	now := w.run.now()
	code, err := unix.GetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err == nil && code != 0 {
		err = unix.Errno(code)
	}
	if err != nil {
		w.hangUp(c)
		w.dialFailed(c, os.NewSyscallError("connect", err), now)
		return
	}
	c.state = open
	w.dialing--
	w.run.open.Add(1)
	w.rec.now.opened++
	if w.run.plan.Mode != Churn || w.run.measured(c.begun) {
		w.rec.time(connectTime, now-c.begun)
	}
	w.load.opened(w, c, now)
}

// scanDials gives up connections that take too long.
func (w *worker) scanDials(now int64) {
	timeout := w.run.plan.Timeout
	for i := range w.conns {
		c := &w.conns[i]
		if c.state == connecting && now-c.begun >= int64(timeout) {
			w.hangUp(c)
			w.error(ConnectTimeout, 1, c, fmt.Sprintf("not connected after %v", timeout), now)
			w.load.ended(w, c, now)
		}
	}
}

// resetOnClose makes the close of fd a reset.
func resetOnClose(fd int) {
	unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
}
