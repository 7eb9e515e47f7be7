package engine

import (
	"io"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What the bound of the send buffer costs where the line is short: an echo of small and of large messages, and a stream. cpu-ns/op is the
// processor time of the server and its client together.
func BenchmarkSendBuffer(b *testing.B) {
	for _, buffer := range []struct {
		name    string
		options Options
	}{
		{"default", Options{}},
		{"SO_SNDBUF=256KiB", Options{SendBuffer: 256 << 10, NotSentLowWater: -1}},
		{"no-bound", Options{NotSentLowWater: -1}},
	} {
		for size, name := range map[int]string{64: "64B", 64 << 10: "64KiB"} {
			b.Run("echo="+name+"/"+buffer.name, func(b *testing.B) {
				c, _ := connect(b, buffer.options)
				data := make([]byte, size)
				counted(b, func() {
					sent := make(chan error, 1)
					go func() {
						_, err := c.Write(data)
						sent <- err
					}()
					if _, err := io.ReadFull(c, make([]byte, size)); err != nil {
						b.Fatal(err)
					}
					if err := <-sent; err != nil {
						b.Fatal(err)
					}
				})
			})
		}
		b.Run("stream=16KiB/"+buffer.name, func(b *testing.B) {
			o := buffer.options
			o.SendLimit, o.PauseAbove = -1, -1
			c, sc := connect(b, o)
			go func() { _, _ = io.Copy(io.Discard, c) }()
			s, data := sc.Context.Session(), make([]byte, 16<<10)
			counted(b, func() {
				if err := s.Send(data); err != nil {
					b.Fatal(err)
				}
				for s.Pending() > 1<<20 {
					time.Sleep(50 * time.Microsecond)
				}
			})
		})
	}
}

// counted runs f as a benchmark and reports the process's CPU time for each.
func counted(b *testing.B, f func()) {
	spent := func() int64 {
		var u unix.Rusage
		if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return u.Utime.Nano() + u.Stime.Nano()
	}
	before := spent()
	for b.Loop() {
		f()
	}
	b.ReportMetric(float64(spent()-before)/float64(b.N), "cpu-ns/op")
}
