package websocket_test

import (
	"fmt"
	"testing"

	"github.com/servercore-go/servercore/layer/websocket"
)

// eachSetting runs f for both sides, with and without compression, for messages of 64 B and 4 KiB of JSON.
func eachSetting(b *testing.B, f func(b *testing.B, l, peer *websocket.Layer, payload []byte)) {
	for _, size := range []int{64, 4 << 10} {
		for _, compressed := range []bool{false, true} {
			for _, client := range []bool{false, true} {
				b.Run(fmt.Sprintf("size=%d/deflate=%v/client=%v", size, compressed, client), func(b *testing.B) {
					server, dialled := accepted(b, websocket.Options{}), dialled(b, websocket.Options{})
					if compressed {
						server, dialled = compressingSide(b, false), compressingSide(b, true)
					}
					if client {
						server, dialled = dialled, server
					}
					b.SetBytes(int64(size))
					b.ReportAllocs()
					f(b, server, dialled, []byte(bodies(size)["12.1"]))
				})
			}
		}
	}
}

func BenchmarkOpen(b *testing.B) {
	eachSetting(b, func(b *testing.B, l, peer *websocket.Layer, payload []byte) {
		wire, err := peer.Framer(0).Append(nil, payload)
		if err != nil {
			b.Fatal(err)
		}
		dst := make([]byte, 64<<10)
		for b.Loop() {
			if data, used, _, err := l.Open(dst, wire); len(data) != len(payload) || used != len(wire) || err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkAppend(b *testing.B) {
	eachSetting(b, func(b *testing.B, l, _ *websocket.Layer, payload []byte) {
		f := l.Framer(0)
		var out []byte
		for b.Loop() {
			var err error
			if out, err = f.Append(out[:0], payload); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(len(out)), "wire-B")
	})
}

// Text of 64 B in frames cut in two reads: the way of what does not lie whole in a read.
func BenchmarkOpenInTwoReads(b *testing.B) {
	l := accepted(b, websocket.Options{})
	wire := frame{fin | text, bodies(64)["12.1"]}.encode(true)
	dst := make([]byte, 64<<10)
	b.ReportAllocs()
	for b.Loop() {
		if _, _, _, err := l.Open(dst, wire[:30]); err != nil {
			b.Fatal(err)
		}
		if data, _, _, err := l.Open(dst, wire[30:]); len(data) != 64 || err != nil {
			b.Fatal(err)
		}
	}
}
