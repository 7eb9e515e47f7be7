package tls

import (
	"crypto/tls"
	"runtime"
	"testing"
)

// memory returns the live heap and the memory of stacks, in bytes.
func memory() (heap, stacks uint64) {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc, m.StackInuse
}

// measure returns what each of n things that make makes costs, in bytes of heap and of stack.
func measure(n int, make1 func() *Layer) (heap, stack float64) {
	all := make([]*Layer, n)
	heap0, stacks0 := memory()
	for i := range all {
		all[i] = make1()
	}
	heap1, stacks1 := memory()
	for _, l := range all {
		l.Drop()
	}
	return float64(int64(heap1-heap0)) / float64(n), float64(int64(stacks1-stacks0)) / float64(n)
}

const measured = 200

// idleServer establishes a server, lets the client send one message of the given size, and drops the client.
func idleServer(tb testing.TB, h *Handshakes, server, client *tls.Config, dst []byte, message int) *Layer {
	s, c := newEnd(tb, Server(server, h, testLocal, testRemote)), newEnd(tb, Client(client, "", h, testLocal, testRemote))
	s.dst, c.dst = dst, dst
	establish(s, c)
	if message > 0 {
		c.seal(pattern(message))
		if deliver(c, s); len(s.got) != message {
			tb.Fatalf("%d bytes arrived, want %d", len(s.got), message)
		}
	}
	s.seal(pattern(64))
	c.layer.Drop()
	return s.layer
}

// An idle session costs what crypto/tls keeps, and little more. The bounds are a third above what go1.26 on amd64 takes.
func TestMemoryOfAnIdleSession(t *testing.T) {
	h, dst, n := &Handshakes{}, make([]byte, 64<<10), measured
	if raceDetector {
		n = 10 // the bound is not looked at
	}
	for _, tt := range []struct {
		name           string
		version        uint16
		message, bound int
	}{
		{"TLS 1.3, no message", tls.VersionTLS13, 0, 7 << 10},
		{"TLS 1.3, 64 B", tls.VersionTLS13, 64, 7 << 10},
		{"TLS 1.2, 64 B", tls.VersionTLS12, 64, 9 << 10},
		{"TLS 1.3, after records of 16 KiB", tls.VersionTLS13, 200_000, 48 << 10},
	} {
		server, client := serverConfig(), clientConfig()
		server.MaxVersion = tt.version
		heap, _ := measure(n, func() *Layer { return idleServer(t, h, server, client, dst, tt.message) })
		t.Logf("%s: %.0f bytes of heap", tt.name, heap)
		if heap > float64(tt.bound) && !raceDetector {
			t.Errorf("%s: %.0f bytes of heap, want at most %d", tt.name, heap, tt.bound)
		}
	}
}

// BenchmarkMemory reports bytes for a session or a handshake. Some 150 of them are the test's: a channel and a function.
func BenchmarkMemory(b *testing.B) {
	h, dst := &Handshakes{Waiting: 1 << 20}, make([]byte, 64<<10)
	flight := helloFlight(b, h)
	report := func(name string, make1 func(b *testing.B) *Layer) {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				heap, stack := measure(measured, func() *Layer { return make1(b) })
				b.ReportMetric(heap, "heap-B")
				b.ReportMetric(stack, "stack-B")
			}
		})
	}
	config := serverConfig()
	started := func(b *testing.B, n int) *Layer {
		s := newEnd(b, Server(config, h, testLocal, testRemote))
		s.dst = nil
		s.kept = flight[:n]
		if s.turn(); n == len(flight) {
			s.waitFor(func() bool { return len(s.out) > 0 })
		}
		return s.layer
	}
	report("stalled/before", func(b *testing.B) *Layer { return started(b, 0) })
	report("stalled/in-hello", func(b *testing.B) *Layer { return started(b, 100) })
	report("stalled/after-hello", func(b *testing.B) *Layer { return started(b, len(flight)) })
	for name, version := range versions {
		server, client := serverConfig(), clientConfig()
		server.MaxVersion = version
		for _, size := range []int{0, 64, 4 << 10, 200_000} {
			report("idle/"+name+"/"+sizeName(size), func(b *testing.B) *Layer { return idleServer(b, h, server, client, dst, size) })
		}
	}
}

func sizeName(n int) string {
	return map[int]string{0: "none", 64: "64B", 4 << 10: "4KiB", 16 << 10: "16KiB", 200_000: "bulk"}[n]
}
