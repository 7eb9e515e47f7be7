package tls

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"sync"
	"testing"
)

// Seal takes no memory, and Open what crypto/tls takes for each record that it has to read: 24 bytes in one allocation.
func TestAllocations(t *testing.T) {
	if raceDetector {
		t.Log("the race detector allocates too: the counts are not looked at")
	}
	eachVersion(t, func(t *testing.T, server, client *tls.Config) {
		s, c := pair(t, server, client)
		for _, size := range []int{64, 16 << 10} {
			plain, wire := pattern(size), make([]byte, 0, 64<<10)
			step := func() {
				var err error
				if wire, err = c.layer.Seal(wire[:0], plain); err != nil {
					t.Fatal(err)
				}
			}
			for range 100 { // past the small records that crypto/tls begins with
				step()
				openAll(t, s, wire, size)
			}
			seal := testing.AllocsPerRun(100, func() {
				step()
				s.kept = append(s.kept, wire...)
			})
			s.open()
			both := testing.AllocsPerRun(100, func() {
				step()
				openAll(t, s, wire, size)
			})
			t.Logf("%d bytes: Seal %v allocations, Open %v", size, seal, both-seal)
			if !raceDetector && (seal >= 1 || both > 2) {
				t.Errorf("%d bytes: Seal %v allocations, and with Open %v, want 0 and at most 2", size, seal, both)
			}
		}
	})
}

// openAll opens one write of the peer's.
func openAll(t testing.TB, s *end, wire []byte, size int) {
	got := 0
	for more := true; more; {
		data, used, again, err := s.layer.Open(s.dst, wire)
		if err != nil {
			t.Fatal(err)
		}
		got, wire, more = got+len(data), wire[used:], again
	}
	if got != size || len(wire) > 0 {
		t.Fatalf("%d bytes came out, want %d; %d are left", got, size, len(wire))
	}
}

// BenchmarkSealOpen is one message from one side to the other, beside the same with two tls.Conns over memory.
func BenchmarkSealOpen(b *testing.B) {
	for name, version := range versions {
		server, client := serverConfig(), clientConfig()
		server.MaxVersion = version
		for _, size := range []int{64, 16 << 10} {
			plain := pattern(size)
			b.Run("layer/"+name+"/"+sizeName(size), func(b *testing.B) {
				s, c := pair(b, server, client)
				wire := make([]byte, 0, 64<<10)
				b.SetBytes(int64(size))
				b.ReportAllocs()
				for b.Loop() {
					wire, _ = c.layer.Seal(wire[:0], plain)
					openAll(b, s, wire, size)
				}
			})
			b.Run("conn/"+name+"/"+sizeName(size), func(b *testing.B) {
				s, c := connPair(b, server, client)
				buf := make([]byte, 64<<10)
				b.SetBytes(int64(size))
				b.ReportAllocs()
				for b.Loop() {
					c.Write(plain)
					if _, err := io.ReadFull(s, buf[:size]); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// BenchmarkHandshake is one handshake, both sides and without I/O, beside the same with two tls.Conns and two goroutines.
func BenchmarkHandshake(b *testing.B) {
	for name, version := range versions {
		for _, kind := range []string{"full", "resumed"} {
			server, client := serverConfig(), clientConfig()
			server.MaxVersion = version
			if kind == "resumed" {
				client.ClientSessionCache = tls.NewLRUClientSessionCache(0)
			}
			h := &Handshakes{}
			dst := make([]byte, 64<<10)
			b.Run("layer/"+kind+"/"+name, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					idleServer(b, h, server, client, dst, 64).Drop()
				}
			})
			b.Run("conn/"+kind+"/"+name, func(b *testing.B) {
				b.ReportAllocs()
				buf := make([]byte, 64)
				for b.Loop() {
					s, c := connPair(b, server, client)
					c.Write(buf)
					io.ReadFull(s, buf)
					s.Write(buf)
					io.ReadFull(c, buf) // takes the ticket
				}
			})
		}
	}
}

// connPair is two tls.Conns over memory, after their handshake.
func connPair(b *testing.B, server, client *tls.Config) (s, c *tls.Conn) {
	near, far := newPipe()
	s, c = tls.Server(near, server), tls.Client(far, client)
	done := make(chan error)
	go func() { done <- s.Handshake() }()
	if err := c.Handshake(); err != nil {
		b.Fatal(err)
	}
	if err := <-done; err != nil {
		b.Fatal(err)
	}
	return s, c
}

// pipe is a net.Conn over memory that buffers what is written.
type pipe struct {
	net.Conn
	in, out *buffer
}

type buffer struct {
	mu   sync.Mutex
	more *sync.Cond
	b    bytes.Buffer
}

func newPipe() (near, far *pipe) {
	x, y := &buffer{}, &buffer{}
	x.more, y.more = sync.NewCond(&x.mu), sync.NewCond(&y.mu)
	return &pipe{in: x, out: y}, &pipe{in: y, out: x}
}

func (p *pipe) Read(b []byte) (int, error) {
	p.in.mu.Lock()
	defer p.in.mu.Unlock()
	for p.in.b.Len() == 0 {
		p.in.more.Wait()
	}
	return p.in.b.Read(b)
}

func (p *pipe) Write(b []byte) (int, error) {
	p.out.mu.Lock()
	defer p.out.mu.Unlock()
	defer p.out.more.Signal()
	return p.out.b.Write(b)
}
