package enginetest

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/servercore-go/servercore/engine"
	"github.com/servercore-go/servercore/frame"
	kit "github.com/servercore-go/servercore/internal/enginekit"
	"github.com/servercore-go/servercore/session"
)

// packets is the framing of framed variants.
var packets = frame.LengthField{MaxFrameLength: 64 << 20, LengthFieldLength: 4, InitialBytesToStrip: 4}

// fillIn sets the defaults.
func (v *Variant) fillIn() {
	if v.Network == "" {
		v.Network = "tcp"
	}
	if v.Address == nil {
		network := v.Network
		v.Address = func(t testing.TB) string { return kit.FreeAddress(t, network) }
		v.fixed = func(t testing.TB) string { return kit.FixedAddress(t, network) }
	}
	v.Loops = max(v.Loops, 1)
	if v.New == nil {
		v.New = v.newEngine
	}
}

// atFixedAddress returns the variant with addresses that nobody else is given when the server has ended, if they are ours to choose.
func (v *Variant) atFixedAddress() *Variant {
	if v.fixed == nil {
		return v
	}
	at := *v
	at.Address = v.fixed
	return &at
}

// newEngine is the default of New.
func (v *Variant) newEngine(o engine.Options, network, address string, f session.Factory, opts ...engine.Option) (Server, func() net.Addr, error) {
	e, err := engine.New(o)
	if err != nil || v.Dialled {
		return e, nil, err
	}
	l, err := e.Listen(network, address, f, opts...)
	if err != nil {
		return nil, nil, err
	}
	return e, l.Addr, nil
}

// options returns those of Listen or Dial, new ones.
func (v *Variant) options() (opts []engine.Option) {
	if v.Options != nil {
		opts = v.Options()
	}
	if v.Framed {
		opts = append(opts, engine.Framed(packets))
	}
	if v.Offloaded {
		opts = append(opts, engine.Offload(v.Loops))
	}
	return opts
}

// sendInPieces sends p so that the client can read it bit by bit: of a layer with messages it reads whole messages.
func (v *Variant) sendInPieces(t testing.TB, s *kit.Session, p []byte) {
	piece := len(p)
	if v.Messages {
		piece = min(piece, 1<<10)
	}
	for part := range slices.Chunk(p, piece) {
		kit.Must(t, s.Send(part))
	}
}

// server is a server of the variant, all of whose sessions are watched over.
type server struct {
	Server
	*kit.Watch
	v    *Variant
	addr func() net.Addr

	// Of dialled variants.
	factory session.Factory
	opts    []engine.Option
	dials   sync.WaitGroup
}

// serve starts a server and has it closed and checked at the end of the test.
func (v *Variant) serve(t testing.TB, o engine.Options, h kit.Hooks) *server {
	t.Helper()
	s := v.prepare(t, o, h)
	kit.Must(t, s.Start())
	return s
}

// prepare is serve without the start.
func (v *Variant) prepare(t testing.TB, o engine.Options, h kit.Hooks) *server {
	t.Helper()
	w := kit.NewWatch(t, h)
	return v.prepareWith(t, o, w, w.New)
}

// prepareWith is prepare with a factory of the test's own, whose sessions w watches over.
func (v *Variant) prepareWith(t testing.TB, o engine.Options, w *kit.Watch, f session.Factory) *server {
	t.Helper()
	w.Wire = v.traits()&plain == 0
	s := v.build(t, o, w, f)
	t.Cleanup(func() {
		s.end()
		s.Check(s.Stats())
	})
	return s
}

// serveUnwatched is serve with handlers that nobody watches over.
func (v *Variant) serveUnwatched(t testing.TB, o engine.Options, f session.Factory) *server {
	t.Helper()
	s := v.build(t, o, kit.NewWatch(t, kit.Hooks{}), f)
	t.Cleanup(s.end)
	kit.Must(t, s.Start())
	return s
}

// end closes the server and waits until it has ended.
func (s *server) end() {
	_ = s.Close()
	s.awaitDone()
	s.dials.Wait()
}

// engine returns the server of a promise that needs the trait engines.
func (s *server) engine() Engine { return s.Server.(Engine) }

// awaitDone waits until the server has ended. The Close of one that is no Engine has waited.
func (s *server) awaitDone() {
	s.T.Helper()
	if e, ok := s.Server.(Engine); ok {
		kit.Await(s.T, e.Done(), "the engine ends")
	}
}

// build makes a server that is not started.
func (v *Variant) build(t testing.TB, o engine.Options, w *kit.Watch, f session.Factory) *server {
	t.Helper()
	s := &server{Watch: w, v: v, factory: f, opts: v.options()}
	if o.Loops = v.Loops; o.Logger == nil {
		o.Logger = kit.Quiet
	}
	address := ""
	if !v.Dialled {
		address = v.Address(t)
	}
	var err error
	s.Server, s.addr, err = v.New(o, v.Network, address, f, s.opts...)
	kit.Must(t, err)
	return s
}

// client connects to the server, without waiting for the session.
func (s *server) client() net.Conn {
	s.T.Helper()
	return s.connection(net.Dialer{})
}

// smallClient is client with so little room to receive that the server soon finds the connection full.
func (s *server) smallClient() net.Conn {
	s.T.Helper()
	return s.connection(kit.Small)
}

func (s *server) connection(d net.Dialer) net.Conn {
	s.T.Helper()
	var c, raw net.Conn
	s.T.Cleanup(func() { // before that of raw is registered, so it runs behind it: the layer gives back what it holds, and says nothing
		if c != nil && s.v.Client != nil {
			_ = c.Close()
		}
	})
	if s.v.Dialled {
		raw = s.dialled(d)
	} else {
		raw = kit.Dial(s.T, s.addr(), d)
	}
	var err error
	c, err = s.wrap(raw)
	kit.Must(s.T, err)
	return c
}

// try connects without a test's goroutine: it may be refused. Sessions must be accepted.
func (s *server) try() (net.Conn, error) {
	a := s.addr()
	raw, err := net.DialTimeout(a.Network(), a.String(), kit.Patience)
	if err != nil {
		return nil, err
	}
	_ = raw.SetDeadline(time.Now().Add(3 * kit.Patience))
	c, err := s.wrap(raw)
	if err != nil {
		_ = raw.Close()
	}
	return c, err
}

// wrap puts the client's side of what the variant has on top of a connection.
func (s *server) wrap(raw net.Conn) (net.Conn, error) {
	top := raw
	if s.v.Client != nil {
		var err error
		if top, err = s.v.Client(raw); err != nil {
			return nil, err
		}
	}
	if s.v.Framed {
		top = &packetConn{Conn: top}
	}
	return &client{Conn: top, raw: raw}, nil
}

// dialled has the engine dial, and returns what it is connected to.
func (s *server) dialled(d net.Dialer) net.Conn {
	s.T.Helper()
	network := s.v.Network
	l, err := (&net.ListenConfig{Control: d.Control}).Listen(context.Background(), network, s.v.Address(s.T))
	kit.Must(s.T, err)
	defer l.Close()
	e := s.Server.(interface {
		Dial(ctx context.Context, network, address string, f session.Factory, opts ...engine.Option) (session.Handler, error)
	})
	s.dials.Go(func() {
		if _, err := e.Dial(context.Background(), network, l.Addr().String(), s.factory, s.opts...); err != nil && !errors.Is(err, engine.ErrClosed) {
			s.T.Errorf("Dial: %v", err)
		}
	})
	return kit.Accept(s.T, l)
}

// connect is client, and waits for the session.
func (s *server) connect() (net.Conn, *kit.Session) {
	s.T.Helper()
	return s.session(s.client())
}

// session waits for the session of a client.
func (s *server) session(c net.Conn) (net.Conn, *kit.Session) {
	s.T.Helper()
	return c, kit.Await(s.T, s.Arrivals, "OnConnected")
}

// ready reports whether the engine accepts, or can dial.
func (s *server) ready() bool { return s.Stats().Loops != nil }

// refused is client for a connection that the server may refuse, in the client's handshake too.
func (s *server) refused() net.Conn {
	s.T.Helper()
	raw := kit.Dial(s.T, s.addr(), net.Dialer{})
	if c, err := s.wrap(raw); err == nil {
		return c
	}
	return raw
}

// client is a connection of package net, and what the variant puts on top of it.
type client struct {
	net.Conn
	raw    net.Conn
	resets bool // what is on top must not say its last word
}

// Close closes the connection, by a reset if SetLinger has said so.
func (c *client) Close() error {
	if c.resets {
		err := c.raw.Close()
		if c.Conn != c.raw {
			_ = c.Conn.Close()
		}
		return err
	}
	return c.Conn.Close()
}

// CloseWrite ends the writing side.
func (c *client) CloseWrite() error {
	if top, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return top.CloseWrite()
	}
	return c.raw.(interface{ CloseWrite() error }).CloseWrite()
}

// SetLinger is that of the connection below; a unix socket has none, and needs none.
func (c *client) SetLinger(seconds int) error {
	c.resets = seconds == 0
	if raw, ok := c.raw.(interface{ SetLinger(int) error }); ok {
		return raw.SetLinger(seconds)
	}
	return nil
}

// packetConn writes and reads the payloads of packets.
type packetConn struct {
	net.Conn
	left int // bytes of the packet that is being read
}

// mostPayload of a packet that a client sends.
const mostPayload = 16 << 10

// Write sends p in one packet, or in several if it is long.
func (c *packetConn) Write(p []byte) (n int, err error) {
	for len(p) > 0 {
		part := p[:min(len(p), mostPayload)]
		b := binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(part)), uint32(len(part)))
		if _, err := c.Conn.Write(append(b, part...)); err != nil {
			return n, err
		}
		n, p = n+len(part), p[len(part):]
	}
	return n, nil
}

// Read returns payload as it comes.
func (c *packetConn) Read(p []byte) (int, error) {
	for c.left == 0 {
		var head [4]byte
		if _, err := io.ReadFull(c.Conn, head[:]); err != nil {
			return 0, err
		}
		c.left = int(binary.BigEndian.Uint32(head[:]))
	}
	n, err := c.Conn.Read(p[:min(len(p), c.left)])
	c.left -= n
	return n, err
}

// CloseWrite ends the writing side.
func (c *packetConn) CloseWrite() error { return c.Conn.(interface{ CloseWrite() error }).CloseWrite() }
