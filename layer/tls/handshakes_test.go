package tls

import (
	"crypto/tls"
	"errors"
	"runtime"
	"testing"
)

// lengths of the lists: running, blocked, resumed, fresh, waiting.
func (h *Handshakes) lengths() [5]int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return [5]int{h.running.n, h.blocked, h.resumed.n, h.fresh.n, h.waiting.n}
}

// stall makes n servers that have answered a ClientHello and wait for ever.
func stall(t testing.TB, h *Handshakes, n int, flight []byte) []*end {
	all := make([]*end, n)
	for i := range all {
		all[i] = newServer(t, serverConfig(), h)
		all[i].dst = nil
		all[i].kept = flight
		all[i].waitFor(func() bool { return len(all[i].out) > 0 })
	}
	return all
}

// Handshakes that stall before the ClientHello is whole have no goroutine; behind it they have one each, and Drop brings it back.
func TestStalledHandshakes(t *testing.T) {
	h := &Handshakes{Waiting: 500}
	flight := helloFlight(t, h)
	idle(t, h)
	before := runtime.NumGoroutine()
	var early []*end
	for i := range 2000 {
		s := newServer(t, serverConfig(), h)
		s.dst, s.cut = nil, 100
		s.kept = flight[:i%len(flight)]
		s.turn()
		early = append(early, s)
	}
	if n := runtime.NumGoroutine() - before; n > 0 || h.lengths() != [5]int{} {
		t.Errorf("%d goroutines for handshakes without a whole ClientHello; lists %v", n, h.lengths())
	}
	late := stall(t, h, 500, flight)
	if got := h.lengths(); got[4] != 500 {
		t.Errorf("lists %v, want 500 waiting", got)
	}
	s, c := newServer(t, serverConfig(), h), newClient(t, clientConfig(), h)
	establish(s, c)
	for _, e := range append(early, late...) {
		e.layer.Drop()
	}
	idle(t, h)
	for range 1_000_000 {
		if runtime.NumGoroutine() <= before {
			return
		}
		runtime.Gosched()
	}
	t.Errorf("%d goroutines are left", runtime.NumGoroutine()-before)
}

// Above Waiting, the handshake that has waited the longest gives way; honest ones pass.
func TestCrowdGivesWay(t *testing.T) {
	h := &Handshakes{Waiting: 10}
	flight := helloFlight(t, h)
	all := stall(t, h, 10, flight)
	for round := range 20 {
		s, c := newServer(t, serverConfig(), h), newClient(t, clientConfig(), h)
		establish(s, c)
		all = append(all, stall(t, h, 1, flight)...)
		oldest := all[round]
		oldest.waitFor(oldest.failed)
		var err *HandshakeError
		if !errors.As(oldest.err, &err) || err.Cause != CauseCrowded {
			t.Fatalf("the oldest failed with %v", oldest.err)
		}
	}
	for i, e := range all[len(all)-9:] {
		if e.turn(); e.failed() {
			t.Errorf("handshake %d of the last 9: %v", i, e.err)
		}
	}
}

// Dialled connections are not among those that give way.
func TestClientsDoNotGiveWay(t *testing.T) {
	h := &Handshakes{Waiting: 1}
	var clients []*end
	for range 5 {
		c := newClient(t, clientConfig(), h)
		c.waitFor(func() bool { return len(c.out) > 0 })
		clients = append(clients, c)
	}
	for _, c := range clients {
		establish(newServer(t, serverConfig(), h), c)
	}
}

// At most Running handshakes compute; one that has begun goes before new ones.
func TestTurns(t *testing.T) {
	h := &Handshakes{Running: 1, Blocked: 1}
	flight := helloFlight(t, h)
	idle(t, h)
	entered, hold := make(chan string, 8), make(chan struct{})
	config := serverConfig()
	config.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		entered <- "a callback"
		<-hold
		return nil, nil
	}
	blocking := func() *end {
		s := newServer(t, config, h)
		s.kept = flight
		s.turn()
		return s
	}
	first, c := newServer(t, serverConfig(), h), newClient(t, clientConfig(), h)
	exchange(first, c, c.layer.Established) // first has to read the last flight, which is kept
	c.own()
	first.kept = append(first.kept, c.out...)
	c.out = nil
	idleBut(t, h, [5]int{0, 0, 0, 0, 1})

	one, two := blocking(), blocking()
	<-entered
	<-entered // the second one got its turn when the first had been at work for 20 ms
	three := blocking()
	first.turn()
	if got := h.lengths(); got != [5]int{1, 1, 1, 1, 0} {
		t.Errorf("lists %v, want one running, one blocked, one resumed, one fresh", got)
	}
	hold <- struct{}{} // one of the two goes on to wait for its client; its turn is the resumed one's
	first.waitFor(first.layer.Established)
	close(hold)
	<-entered
	for _, s := range []*end{one, two, three} {
		s.waitFor(func() bool { return len(s.out) > 0 })
	}
	if got := h.lengths(); got[0]+got[1]+got[2]+got[3] != 0 || got[4] != 3 {
		t.Errorf("lists %v, want 3 waiting", got)
	}
}

// idleBut waits until the lists have these lengths.
func idleBut(t *testing.T, h *Handshakes, want [5]int) {
	t.Helper()
	for range 1_000_000 {
		if h.lengths() == want {
			return
		}
		runtime.Gosched()
	}
	t.Fatalf("lists %v, want %v", h.lengths(), want)
}

// Callbacks that block, as many as may, delay the others by 20 ms at a time and not for ever.
func TestBlockedCallbacksLetOthersPass(t *testing.T) {
	h := &Handshakes{Running: 2}
	hold := make(chan struct{})
	blocks := serverConfig()
	blocks.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { <-hold; return nil, nil }
	flight := helloFlight(t, h)
	var blocked []*end
	for range 20 {
		s := newServer(t, blocks, h)
		s.kept = flight
		s.turn()
		blocked = append(blocked, s)
	}
	for range 5 {
		establish(newServer(t, serverConfig(), h), newClient(t, clientConfig(), h))
	}
	if got := h.lengths(); got[0]+got[1] != 20 {
		t.Errorf("lists %v, want 20 at work", got)
	}
	close(hold)
	for _, s := range blocked {
		s.waitFor(func() bool { return len(s.out) > 0 })
	}
}

// A handshake takes no more input than it has room for, and asks for the rest when there is room again.
func TestInputIsBounded(t *testing.T) {
	h := &Handshakes{}
	hold, entered := make(chan struct{}), make(chan struct{})
	config := serverConfig()
	config.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { close(entered); <-hold; return nil, nil }
	s, c := newServer(t, config, h), newClient(t, clientConfig(), h)
	c.waitFor(func() bool { return len(c.out) > 0 })
	s.kept = append(c.out, make([]byte, 1<<20)...)
	s.turn()
	<-entered
	s.turn()
	if n := 1<<20 + len(c.out) - len(s.kept); n > 2*maxRecord {
		t.Errorf("%d bytes were taken, want at most %d", n, 2*maxRecord)
	}
	close(hold)
	s.waitFor(s.failed) // the rest is garbage
}

// A client that was not asked for a certificate cannot make the server hold a huge one; one that was asked may send what crypto/tls takes.
func TestHugeCertificates(t *testing.T) {
	h := &Handshakes{}
	flight := helloFlight(t, h)
	for _, tt := range []struct {
		auth     tls.ClientAuthType
		size     int
		tooLarge bool
	}{
		{tls.NoClientCert, 200 << 10, true},
		{tls.RequestClientCert, 200 << 10, false},
		{tls.RequestClientCert, 300 << 10, false}, // crypto/tls refuses it by its length
	} {
		config := serverConfig()
		config.MaxVersion, config.ClientAuth = tls.VersionTLS12, tt.auth
		s := newServer(t, config, h)
		s.kept = flight
		s.waitFor(func() bool { return len(s.out) > 0 })
		message := append([]byte{11, byte(tt.size >> 16), byte(tt.size >> 8), byte(tt.size)}, make([]byte, tt.size)...) // Certificate
		for len(message) > 0 {
			n := min(len(message), 1<<14)
			s.kept = append(append(s.kept, typeHandshake, 3, 3, byte(n>>8), byte(n)), message[:n]...)
			message = message[n:]
		}
		s.waitFor(s.failed)
		var err *HandshakeError
		if !errors.As(s.err, &err) || err.Cause == CauseTruncated || errors.Is(err, errTooMuch) != tt.tooLarge {
			t.Errorf("%v, %d bytes: %v", tt.auth, tt.size, s.err)
		}
	}
}

// A ClientHello of 64 KiB, longer than the room for input, comes through, and is refused for what is in it.
func TestLongHello(t *testing.T) {
	h := &Handshakes{Running: 1}
	hold, entered := make(chan struct{}), make(chan struct{})
	config := serverConfig()
	config.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { close(entered); <-hold; return nil, nil }
	first := newServer(t, config, h) // has the only turn for a while
	first.kept = helloFlight(t, h)
	first.turn()
	<-entered
	s := newServer(t, serverConfig(), h)
	message := append([]byte{typeClientHello, 0, 0xff, 0xfc}, make([]byte, 0xfffc)...)
	for len(message) > 0 {
		s.kept = append(s.kept, typeHandshake, 3, 1, 0x40, 0)
		s.kept = append(s.kept, message[:maxPlain]...)
		message = message[maxPlain:]
	}
	s.turn()
	close(hold)
	s.waitFor(s.failed)
	var err *HandshakeError
	if !errors.As(s.err, &err) || err.Cause != CauseProtocol || len(s.kept) != 0 {
		t.Errorf("%v, %d bytes are left", s.err, len(s.kept))
	}
}
