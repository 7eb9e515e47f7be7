package websocket_test

import (
	"bytes"
	"runtime"
	"strings"
	"testing"
	"unsafe"

	"github.com/servercore-go/servercore/layer/websocket"
	"github.com/servercore-go/servercore/pool"
)

// An idle session has the struct, and the request's header if the caller keeps it.
func TestIdleSize(t *testing.T) {
	if size := unsafe.Sizeof(websocket.Layer{}); size > 64 {
		t.Errorf("a Layer has %d bytes, want at most 64", size)
	} else {
		t.Logf("a Layer has %d bytes", size)
	}
	s, err := websocket.NewServer(websocket.Options{})
	if err != nil {
		t.Fatal(err)
	}
	in := []byte(request("User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36",
		"Origin: https://example.com", "Cookie: session=0123456789abcdef0123456789abcdef", "Accept-Language: en-US,en;q=0.9",
		"Accept-Encoding: gzip, deflate, br, zstd", "Cache-Control: no-cache", "Pragma: no-cache"))
	const n = 1000
	heap := func() int {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int(m.HeapAlloc)
	}
	layers := make([]*websocket.Layer, n)
	var buf []byte
	before := heap()
	for i := range layers {
		layers[i] = s.Layer(nil)
		if _, used, _, err := layers[i].Open(nil, in); used != len(in) || err != nil {
			t.Fatal(err)
		}
		buf = layers[i].Own(buf[:0], true)
	}
	with := heap()
	for _, l := range layers {
		l.Request(nil)
	}
	asked := heap()
	for _, l := range layers {
		l.ForgetRequest()
	}
	without := heap()
	t.Logf("heap of an established session: %d bytes with a header of %d, %d after Request, %d without", (with-before)/n, len(in), (asked-before)/n, (without-before)/n)
	if (with-before)/n > 160+len(in)+len(in)/8+64 {
		t.Errorf("an established session keeps %d bytes, with a header of %d", (with-before)/n, len(in))
	}
	if (without-before)/n > 160 {
		t.Errorf("an established session keeps %d bytes besides its request", (without-before)/n)
	}
	runtime.KeepAlive(layers)
}

// Data that fits is in dst; other data is in the layer's memory, which the next Open gives back, without new input.
func TestWhereDataLies(t *testing.T) {
	small, large := strings.Repeat("s", 100), strings.Repeat("l", 200)
	dst := make([]byte, 150)
	for _, frames := range [][]frame{{{fin | text, small}, {fin | text, large}}, {{text, small[:50]}, {fin | cont, small[50:]}, {text, large[:1]}, {fin | cont, large[1:]}},
		{{fin | rsv1 | text, deflated(t, small, 1)}, {fin | rsv1 | text, deflated(t, large, 1)}}} {
		l := accepted(t, compressing, offer)
		wire := encodeAll(true, frames...)
		data, used, more, err := l.Open(dst, wire)
		if string(data) != small || &data[0] != &dst[0] || more || err != nil || pool.Live() != 0 || !l.IsIdle() {
			t.Fatalf("%q, used %d, more %v, %v, %d buffers", data, used, more, err, pool.Live())
		}
		data, n, more, err := l.Open(dst, wire[used:])
		if string(data) != large || !more || err != nil || used+n != len(wire) || pool.Live() != 1 {
			t.Fatalf("%q, used %d, more %v, %v, %d buffers", data, n, more, err, pool.Live())
		}
		if data, n, more, err := l.Open(dst, nil); data != nil || n != 0 || more || err != nil || pool.Live() != 0 || !l.IsIdle() {
			t.Fatalf("%q, used %d, more %v, %v, %d buffers", data, n, more, err, pool.Live())
		}
	}
}

// What a message that comes in pieces holds grows with what has come, not with what was announced.
func TestMemoryGrowsWithWhatCame(t *testing.T) {
	l := accepted(t, websocket.Options{MaxMessage: 64 << 20})
	var wire bytes.Buffer
	wire.WriteString("\x82\xff\x00\x00\x00\x00\x04\x00\x00\x00abcd") // 64 MiB
	wire.Write(make([]byte, 1000))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, _, _, err := l.Open(nil, wire.Bytes()); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 64<<10 {
		t.Errorf("%d bytes for 1000", grown)
	}
	l.Drop()
	noBuffers(t)
}

func TestNoAllocation(t *testing.T) {
	payload := strings.Repeat("a", 64)
	dst, out := make([]byte, 64<<10), make([]byte, 0, 64<<10)
	for _, client := range []bool{false, true} {
		side := accepted
		if client {
			side = dialled
		}
		l := side(t, websocket.Options{})
		wire := encodeAll(!client, frame{fin | text, payload}, frame{fin | binaryOp, payload})
		f := l.Framer(0)
		if n := testing.AllocsPerRun(1000, func() {
			for in := wire; len(in) > 0; {
				data, used, _, err := l.Open(dst, in)
				if len(data) != 64 || err != nil {
					t.Fatal(err)
				}
				in = in[used:]
				if out, err = f.Append(out[:0], data); err != nil {
					t.Fatal(err)
				}
			}
		}); n != 0 {
			t.Errorf("client %v: %v allocations for two messages", client, n)
		}
	}
}
