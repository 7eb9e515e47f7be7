package bench

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// A target is where connections go: what an address of a plan stands for, and what is said there first. Each worker has its own: a
// Sockaddr keeps the system's form of itself inside and writes it anew at each use.
type target struct {
	list []endpoint // tried in this order until one works
	// chosen is the number of the endpoint that all connections go to, -1 until one has worked. Clones share it.
	chosen *atomic.Int32
	// sources are the local addresses, used in turn. Empty: the system's choice.
	sources []unix.Sockaddr
	tls     *tls.Config // nil without TLS
	request string      // for WebSocket, up to the key; "" without
}

type endpoint struct {
	family int
	addr   unix.Sockaddr
	text   string
}

// resolve finds out every address that the plan's may stand for: IPv4 first. No host, and localhost, are this machine with
// both kinds of address, whatever the hosts file says (RFC 6761, 6.3).
func resolve(ctx context.Context, p *Plan) (*target, error) {
	if path, ok := strings.CutPrefix(p.Addr, "unix:"); ok {
		return newTarget(endpoint{unix.AF_UNIX, &unix.SockaddrUnix{Name: path}, p.Addr}), nil
	}
	host, service, err := net.SplitHostPort(p.Addr)
	if err != nil {
		return nil, fmt.Errorf("bench: address %s: %w", p.Addr, err)
	}
	port, err := strconv.Atoi(service)
	if err != nil {
		return nil, fmt.Errorf("bench: address %s: %w", p.Addr, err)
	}
	ips := []net.IPAddr{{IP: net.IPv4(127, 0, 0, 1)}, {IP: net.IPv6loopback}}
	if p.Sources > 0 {
		ips = ips[:1]
	}
	if host != "" && !strings.EqualFold(strings.TrimSuffix(host, "."), "localhost") {
		if ips, err = net.DefaultResolver.LookupIPAddr(ctx, host); err != nil {
			return nil, fmt.Errorf("bench: address %s: %w", p.Addr, err)
		}
	}
	t := newTarget()
	for _, ip := range ips {
		to, err := newEndpoint(ip, port)
		if err != nil {
			return nil, fmt.Errorf("bench: address %s: %w", p.Addr, err)
		}
		if !slices.ContainsFunc(t.list, func(e endpoint) bool { return e.text == to.text }) {
			t.list = append(t.list, to)
		}
	}
	slices.SortStableFunc(t.list, func(a, b endpoint) int { return cmp.Compare(a.rank(), b.rank()) })
	for i := range p.Sources {
		t.sources = append(t.sources, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, byte(2 + i)}})
	}
	return t, nil
}

func newTarget(list ...endpoint) *target {
	t := &target{list: list, chosen: new(atomic.Int32)}
	t.chosen.Store(-1)
	return t
}

// targets returns what the addresses of the plan stand for: that of Addr, and those of Subscribe.
func (p Plan) targets(ctx context.Context) ([]*target, error) {
	var all []*target
	for _, addr := range append([]string{p.Addr}, p.subscribe()...) {
		p.Addr = addr
		t, err := resolve(ctx, &p)
		if err != nil {
			return nil, err
		}
		if t.tls, err = p.tlsConfig(); err != nil {
			return nil, err
		}
		if p.WS != "" {
			t.request = p.upgradeRequest()
		}
		all = append(all, t)
	}
	return all, nil
}

// rank orders endpoints by their families.
func (e *endpoint) rank() int {
	if e.family == unix.AF_INET {
		return 0
	}
	return 1
}

func newEndpoint(ip net.IPAddr, port int) (endpoint, error) {
	text := (&net.TCPAddr{IP: ip.IP, Port: port, Zone: ip.Zone}).String()
	if v4 := ip.IP.To4(); v4 != nil {
		return endpoint{unix.AF_INET, &unix.SockaddrInet4{Port: port, Addr: [4]byte(v4)}, text}, nil
	}
	to := &unix.SockaddrInet6{Port: port, Addr: [16]byte(ip.IP.To16())}
	if ip.Zone != "" {
		zone, err := net.InterfaceByName(ip.Zone)
		if err != nil {
			return endpoint{}, err
		}
		to.ZoneId = uint32(zone.Index)
	}
	return endpoint{unix.AF_INET6, to, text}, nil
}

// clone returns a target for another worker, which shares the choice with t.
func (t *target) clone() *target {
	c := &target{chosen: t.chosen, tls: t.tls, request: t.request}
	for _, e := range t.list {
		c.list = append(c.list, endpoint{e.family, cloneAddr(e.addr), e.text})
	}
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

// connect begins a connection to the n-th address; id chooses the source address. It does not wait.
func (t *target) connect(n int, id uint32) (fd int, err error) {
	to := &t.list[n]
	fd, err = openSocket(to.family)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	if to.family != unix.AF_UNIX {
		err = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	}
	if err == nil && len(t.sources) > 0 {
		err = bindSource(fd, t.sources[int(id)%len(t.sources)])
	}
	if err == nil {
		err = unix.Connect(fd, to.addr)
	}
	if err != nil && err != unix.EINPROGRESS && err != unix.EINTR {
		unix.Close(fd)
		return -1, os.NewSyscallError("connect", err)
	}
	return fd, nil
}

// toItself reports whether a TCP connection has the same socket at both ends. That happens if no server listens on a port of the range of
// local ports, and the system chooses that port for the connection: both SYNs meet (RFC 9293, 3.5).
func toItself(fd int) bool {
	local, err := unix.Getsockname(fd)
	if err != nil {
		return false
	}
	remote, err := unix.Getpeername(fd)
	if err != nil {
		return false
	}
	switch l := local.(type) {
	case *unix.SockaddrInet4:
		r, ok := remote.(*unix.SockaddrInet4)
		return ok && l.Port == r.Port && l.Addr == r.Addr
	case *unix.SockaddrInet6:
		r, ok := remote.(*unix.SockaddrInet6)
		return ok && l.Port == r.Port && l.Addr == r.Addr && l.ZoneId == r.ZoneId
	}
	return false
}

// retryAfter is the pause before a failed connect is tried again, in nanoseconds.
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
	now := w.clock() // connecting takes time of its own
	if c.begun == 0 {
		c.begun = now
	}
	to := w.targets[c.target]
	if chosen := to.chosen.Load(); chosen >= 0 {
		c.to = chosen
	}
	fd, err := to.connect(int(c.to), c.v.id)
	if err == nil {
		if err = w.poll.add(fd, c.key()); err != nil {
			unix.Close(fd)
		}
	}
	switch {
	case err == nil:
		c.fd, c.state = fd, connecting
		w.dialing++
	case to.list[c.to].family == unix.AF_UNIX && errors.Is(err, unix.EAGAIN) && now-c.begun < int64(w.run.plan.Timeout):
		w.pause(c, now) // the listener's queue is full: for a unix socket the system does not wait
	default:
		w.dialFailed(c, classifyDial(err), err.Error(), now)
	}
}

// pause dials c again after retryAfter.
func (w *worker) pause(c *conn, now int64) {
	c.rest = now + retryAfter
	w.resting++
}

// redial dials the connections whose pause is over.
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

// classifyDial is classify for the error of a connect.
func classifyDial(err error) Kind {
	kind := classify(err)
	if kind == Timeout {
		kind = ConnectTimeout
	}
	return kind
}

// failures are the errors of one connection with several addresses, until an address works.
type failures struct {
	kind  Kind
	texts []string
}

// dialFailed counts that c could not connect, unless another address can be tried.
func (w *worker) dialFailed(c *conn, kind Kind, detail string, now int64) {
	c.begun = 0
	to := w.targets[c.target]
	if len(to.list) > 1 && kind != NoDescriptors {
		if c.failed == nil {
			c.failed = &failures{kind: kind}
		}
		if kind == Refused {
			c.failed.kind = kind // says more than that this machine has no such address
		}
		c.failed.texts = append(c.failed.texts, to.list[c.to].text+": "+detail)
		chosen := to.chosen.Load()
		if chosen >= 0 && chosen != c.to || chosen < 0 && int(c.to)+1 < len(to.list) {
			c.to++
			w.dial(c)
			return
		}
		kind, detail = c.failed.kind, strings.Join(c.failed.texts, "; ")
		c.to, c.failed = 0, nil
	}
	w.error(kind, 1, c, detail, now)
	if kind == NoDescriptors {
		w.run.fail(descriptorAdvice(w.run.plan.total()))
	}
	w.load.ended(w, c, now)
}

// connected handles the end of a connect.
func (w *worker) connected(c *conn) {
	now := w.clock()
	code, err := unix.GetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err == nil && code != 0 {
		err = unix.Errno(code)
	}
	detail := ""
	if err == nil && w.targets[c.target].list[c.to].family != unix.AF_UNIX && toItself(c.fd) {
		resetOnClose(c.fd) // otherwise its port would stay in TIME_WAIT, and a server could not listen on it
		err, detail = unix.ECONNREFUSED, "nobody listens there: the connection reached itself"
	}
	if err != nil {
		w.hangUp(c)
		if detail == "" {
			detail = os.NewSyscallError("connect", err).Error()
		}
		w.dialFailed(c, classifyDial(err), detail, now)
		return
	}
	if !w.choose(c) {
		w.hangUp(c)
		c.begun = 0
		w.dial(c)
		return
	}
	c.failed = nil
	if w.run.plan.Mode != Churn || w.run.measured(c.begun) {
		w.rec.time(connectTime, now-c.begun)
	}
	if config := w.targets[c.target].tls; config != nil {
		c.state, c.tls = shaking, newSecured(c.fd, config, now)
		return
	}
	w.secure(c, now)
}

// secure goes on with a connection that is as secure as it will be.
func (w *worker) secure(c *conn, now int64) {
	if w.run.plan.WS != "" {
		w.beginUpgrade(c, now)
		return
	}
	w.established(c, now)
}

// established begins the load on a connection.
func (w *worker) established(c *conn, now int64) {
	c.state = open
	w.dialing--
	w.run.open.Add(1)
	w.rec.now.opened++
	if w.run.measured(now) {
		w.rec.now.inTime++
	}
	w.load.opened(w, c, now)
}

// choose makes the endpoint of the first connection that of all others to its target. It reports whether c has that endpoint.
func (w *worker) choose(c *conn) bool {
	chosen := w.targets[c.target].chosen
	chosen.CompareAndSwap(-1, c.to)
	return chosen.Load() == c.to
}

// scanDials ends connects, handshakes and upgrades that take too long. While no endpoint of a target is known to work, each has a part of the
// time.
func (w *worker) scanDials(now int64) {
	for i := range w.conns {
		c := &w.conns[i]
		timeout := w.run.plan.Timeout
		if to := w.targets[c.target]; to.chosen.Load() < 0 {
			timeout /= time.Duration(len(to.list))
		}
		if c.state == connecting && now-c.begun >= int64(timeout) {
			w.hangUp(c)
			w.dialFailed(c, ConnectTimeout, fmt.Sprintf("not connected after %v", timeout), now)
		}
		if c.state == shaking && now-c.begun >= int64(w.run.plan.Timeout) {
			w.handshakeFailed(c, fmt.Errorf("not done %v after the connect", w.run.plan.Timeout), now)
		}
		if c.state == upgrading && now-c.begun >= int64(w.run.plan.Timeout) {
			w.upgradeFailed(c, fmt.Errorf("not done %v after the connect", w.run.plan.Timeout), now)
		}
	}
}

// resetOnClose makes the close of fd a reset.
func resetOnClose(fd int) {
	unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
}
