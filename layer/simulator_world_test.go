package layer_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	crand "crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/servercore-go/servercore/internal/testkit"
	"github.com/servercore-go/servercore/layer"
	layertls "github.com/servercore-go/servercore/layer/tls"
	"github.com/servercore-go/servercore/layer/websocket"
	"github.com/servercore-go/servercore/session"
)

var simCertificate = sync.OnceValue(func() tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), crand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(crand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		panic(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
})

// simKind is what a session speaks.
type simKind struct {
	version    uint16 // of TLS, 0 without
	webSocket  bool
	compresses bool
	client     bool // the session is the client, and its peer the server
}

func (k simKind) String() string {
	return fmt.Sprintf("TLS %#x, WebSocket %t, compression %t, client %t", k.version, k.webSocket, k.compresses, k.client)
}

// simHandler is a session. It hands its callbacks to the model.
type simHandler struct {
	session.Session
	m *simSession
}

func (h *simHandler) OnRecv(data []byte) {
	h.m.inside(func() { h.m.recv(simMessage{data: string(data)}, false) })
}
func (h *simHandler) OnSend(n int)           { h.m.inside(func() { h.m.told += n }) }
func (h *simHandler) base() *session.Session { return &h.Session }

// simTexts is one that gets texts apart.
type simTexts struct{ simHandler }

func (h *simTexts) OnText(data []byte) {
	h.m.inside(func() { h.m.recv(simMessage{true, string(data)}, true) })
}

// simHalf is one that stays open after the peer's FIN.
type simHalf struct{ simHandler }

func (h *simHalf) OnHalfClose() { h.m.inside(func() { h.m.halved = true }) }

// connect makes a session whose handshakes are done.
func (s *simWorld) connect() {
	k := simKind{client: s.IntN(2) == 0, webSocket: s.IntN(4) > 0}
	if !k.webSocket || s.IntN(2) == 0 {
		k.version = []uint16{tls.VersionTLS12, tls.VersionTLS13}[s.IntN(2)]
	}
	k.compresses = k.webSocket && s.IntN(3) == 0
	m := &simSession{s: s, n: len(s.sessions), kind: k}
	bell := make(chan struct{}, 1)
	news := func() {
		select {
		case bell <- struct{}{}:
		default:
		}
	}
	server := &tls.Config{Certificates: []tls.Certificate{simCertificate()}, MaxVersion: k.version, CurvePreferences: []tls.CurveID{tls.X25519}}
	client := &tls.Config{InsecureSkipVerify: true, MaxVersion: k.version, CurvePreferences: []tls.CurveID{tls.X25519}}
	m.peer = newSimPeer(s.Rand, !k.client, k.version != 0, k.webSocket, k.compresses, map[bool]*tls.Config{true: server, false: client}[k.client], news)
	m.peer.mute = s.IntN(10) == 0
	l := s.layer(m, server, client)
	more, rest := handshake(s.t, l, m.peer, news, bell)
	var h session.Handler
	switch s.IntN(3) {
	case 0:
		o := &simHandler{m: m}
		h, m.h = o, o.base()
	case 1:
		o := &simTexts{simHandler{m: m}}
		h, m.h = o, o.base()
	case 2:
		o := &simHalf{simHandler{m: m}}
		h, m.h, m.lasting = o, o.base(), true
	}
	m.handler = h
	c, err := s.loop.BindLayer(h, session.FramingOf(l), l, more)
	if err != nil {
		panic(err)
	}
	m.c = c
	c.Kernel = s.pick(0, 500, 5000, 100_000)
	c.MaxWrite = s.pick(0, 0, 3, 1000)
	c.Chunk = s.pick(0, 0, 1, 13, 1000)
	c.Take = func(b []byte) {
		if m.peer.fault == nil {
			m.peer.take(b)
		}
	}
	c.Plan = func(offered int) (int, error) {
		switch r := s.IntN(20); {
		case s.calm || r > 2:
			return offered, nil
		case r == 0:
			return 0, session.ErrNoMemory
		case r == 1:
			s.stats["blocked writes"]++
			return 0, session.ErrWouldBlock
		}
		return s.IntN(offered) + 1, nil
	}
	s.sessions = append(s.sessions, m)
	s.note("%d: connects, %v, Kernel %d, MaxWrite %d, Chunk %d, lasting %t, mute %t", m.n, k, c.Kernel, c.MaxWrite, c.Chunk, m.lasting, m.peer.mute)
	c.PeerWrite(rest)
	c.Connected()
	if k.webSocket && s.IntN(2) == 0 {
		s.group.Join(h)
		m.member = true
	}
}

// layer makes the session's side.
func (s *simWorld) layer(m *simSession, server, client *tls.Config) session.Handshaker {
	k := m.kind
	var below *layertls.Layer
	switch {
	case k.version == 0:
	case k.client:
		below = layertls.Client(client, "", &s.handshakes, nil, nil)
	default:
		below = layertls.Server(server, &s.handshakes, nil, nil)
	}
	if !k.webSocket {
		return below
	}
	o := websocket.Options{Compression: k.compresses, MaxMessage: simMaxMessage, PingInterval: -1}
	if s.IntN(3) == 0 {
		o.PingInterval, o.PongTimeout = 20*time.Second, 10*time.Second
		m.pinged = true
	}
	var above *websocket.Layer
	if k.client {
		var err error
		if above, err = websocket.NewClient(o, "ws://x/", nil); err != nil {
			panic(err)
		}
	} else {
		of, err := websocket.NewServer(o)
		if err != nil {
			panic(err)
		}
		above = of.Layer(nil)
	}
	if below == nil {
		return above
	}
	return layer.Stack(below, above)
}

// handshake does the handshakes. It returns what the last Open has, and what the peer has sent behind them.
func handshake(t testing.TB, l session.Handshaker, p *simPeer, news func(), bell chan struct{}) (more bool, rest []byte) {
	done := make(chan error, 1)
	secure := p.tls == nil
	if p.tls != nil {
		go func() {
			done <- p.tls.Handshake()
			news()
		}()
	}
	l.Start(news)
	asked := !p.client || !p.webSocket
	late := time.After(30 * time.Second)
	for {
		if p.pipe != nil {
			p.out = append(p.out, p.pipe.takeOut()...)
		}
		select {
		case err := <-done:
			if err != nil {
				panic(err)
			}
			secure = true
			p.pipe.mu.Lock()
			p.pipe.waits = false
			p.pipe.mu.Unlock()
			p.take(nil)
		default:
		}
		if secure && !asked {
			asked = true
			p.request()
		}
		moved := false
		if !l.Established() {
			_, used, again, err := l.Open(nil, p.out)
			if err != nil {
				panic(err)
			}
			p.next(used)
			moved, more = used > 0 || again, again
		}
		if l.Pending() {
			own := l.Own(nil, true)
			if moved = true; secure {
				p.take(own)
			} else {
				p.pipe.give(own)
			}
		}
		switch {
		case l.Established() && !l.Pending() && secure && (p.up || !p.webSocket):
			return more, p.next(len(p.out))
		case moved:
			continue
		}
		select {
		case <-bell:
		case <-late:
			t.Fatal("the handshake does not end")
		}
	}
}

// simWorld is one run.
type simWorld struct {
	*rand.Rand
	t          testing.TB
	loop       *testkit.Loop
	limits     session.Limits
	handshakes layertls.Handshakes
	group      session.Group
	sessions   []*simSession
	calm       bool
	failed     error
	tracing    bool
	trace      []string
	stats      map[string]int
}

func (s *simWorld) pick(of ...int) int { return of[s.IntN(len(of))] }

func (s *simWorld) failf(format string, args ...any) {
	if s.failed == nil {
		s.failed = fmt.Errorf(format, args...)
		s.note("FAILED: %v", s.failed)
	}
}

func (s *simWorld) note(format string, args ...any) {
	if s.tracing {
		s.trace = append(s.trace, fmt.Sprintf(format, args...))
	}
}

var errSimReset = errors.New("simulated reset")

// text returns n bytes that are UTF-8, with characters of several bytes.
func (s *simWorld) text(n int) string {
	var b strings.Builder
	for b.Len() < n {
		b.WriteString([]string{"a", "ß", "語", "😀"}[s.IntN(4)])
	}
	return b.String()
}

// some returns n bytes; some of them compress well.
func (s *simWorld) some(n int) string {
	b := make([]byte, n)
	if s.IntN(2) == 0 {
		for i := range b {
			b[i] = byte(s.Uint32())
		}
	} else {
		copy(b, strings.Repeat(fmt.Sprint(s.IntN(1000)), n/3+1))
	}
	return string(b)
}

func (s *simWorld) size() int {
	switch s.IntN(8) {
	case 0:
		return 1
	case 1:
		return 1 + s.IntN(40_000)
	case 2:
		return 500 + s.IntN(3000)
	}
	return 1 + s.IntN(300)
}
