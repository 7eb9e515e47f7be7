package frame_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"github.com/servercore-go/servercore/frame"
)

// assembler is the simplest user of a Framer: it appends what is received to a buffer and splits packets off until none is
// complete. It checks each result against F1 and the optional interfaces.
type assembler struct {
	f       frame.Framer
	resume  bool // use SplitFrom
	buf     []byte
	scanned int // bytes of buf in which an earlier call found no packet
	size    int // last result of SizeOf for the packet at the beginning of buf
	packets [][]byte
	err     error
}

func (a *assembler) feed(t testing.TB, received []byte) {
	t.Helper()
	a.buf = append(a.buf, received...)
	for a.err == nil {
		var packet []byte
		var n int
		if a.resume {
			packet, n, a.err = a.f.(frame.Resumer).SplitFrom(a.buf, a.scanned)
		} else {
			packet, n, a.err = a.f.Split(a.buf)
		}
		checkAnswer(t, a.f, a.buf, packet, n, a.err)
		if s, ok := a.f.(frame.Sizer); ok {
			size := s.SizeOf(a.buf)
			if a.size != 0 && size != a.size {
				t.Fatalf("%#v: SizeOf changed from %d to %d as bytes came", a.f, a.size, size)
			}
			a.size = size
		}
		if n == 0 {
			a.scanned = len(a.buf)
			return
		}
		a.packets = append(a.packets, bytes.Clone(packet))
		a.buf, a.scanned, a.size = a.buf[n:], 0, 0
	}
}

// checkAnswer checks F1, and that SizeOf agrees with Split.
func checkAnswer(t testing.TB, f frame.Framer, data, packet []byte, n int, err error) {
	t.Helper()
	switch {
	case err != nil && (n != 0 || packet != nil):
		t.Fatalf("%#v: Split(%x) = %x, %d with error %v", f, data, packet, n, err)
	case n < 0 || n > len(data):
		t.Fatalf("%#v: Split(%x): n = %d of %d bytes", f, data, n, len(data))
	case n == 0 && packet != nil:
		t.Fatalf("%#v: Split(%x): packet %x with n = 0", f, data, packet)
	case n > 0:
		begin := 0 // the address of an empty slice says nothing
		if len(packet) > 0 {
			begin = int(uintptr(unsafe.Pointer(&packet[0])) - uintptr(unsafe.Pointer(&data[0])))
		}
		if packet == nil || begin < 0 || begin+len(packet) > n || cap(packet) != len(packet) {
			t.Fatalf("%#v: Split(%x): packet at %d, length %d, capacity %d, outside of the first %d bytes",
				f, data, begin, len(packet), cap(packet), n)
		}
	}
	if s, ok := f.(frame.Sizer); ok {
		size := s.SizeOf(data)
		if n > 0 && size != n || err != nil && size != 0 || n == 0 && size != 0 && size <= len(data) {
			t.Fatalf("%#v: SizeOf(%x) = %d, where Split has n = %d, error %v", f, data, size, n, err)
		}
	}
}

// kind is the part of an error that must not depend on how the stream was cut.
func kind(err error) string {
	switch {
	case err == nil:
		return "none"
	case errors.Is(err, frame.ErrTooLarge):
		return "too large"
	case errors.Is(err, frame.ErrMalformed):
		return "malformed"
	}
	return err.Error() // an invalid field
}

// longest is the length, in bytes, of the longest stream for checkStream, which takes quadratic time.
const longest = 512

// checkStream checks F2: the stream in one piece, byte by byte, and cut at random, with Split and with SplitFrom.
func checkStream(t testing.TB, f frame.Framer, stream []byte, random *rand.Rand) {
	t.Helper()
	whole := &assembler{f: f}
	whole.feed(t, stream)

	same := func(a *assembler, how string) {
		t.Helper()
		if !slices.EqualFunc(a.packets, whole.packets, bytes.Equal) || kind(a.err) != kind(whole.err) ||
			a.err == nil && !bytes.Equal(a.buf, whole.buf) {
			t.Fatalf("%#v, stream %x\nwhole: %x, error %v, %d bytes left\n%s: %x, error %v, %d bytes left",
				f, stream, whole.packets, whole.err, len(whole.buf), how, a.packets, a.err, len(a.buf))
		}
	}
	_, canResume := f.(frame.Resumer)
	for _, resume := range []bool{false, true} {
		if resume && !canResume {
			continue
		}
		single := &assembler{f: f, resume: resume}
		single.feed(t, nil) // an invalid framer returns its error without any bytes
		for i := range stream {
			single.feed(t, stream[i:i+1])
		}
		same(single, fmt.Sprintf("byte by byte, resume %v", resume))
		for range 3 {
			cut := &assembler{f: f, resume: resume}
			cut.feed(t, nil)
			for rest := stream; len(rest) > 0; {
				k := 1 + random.IntN(min(len(rest), 1+random.IntN(64)))
				cut.feed(t, rest[:k])
				rest = rest[k:]
			}
			same(cut, fmt.Sprintf("cut at random, resume %v", resume))
		}
	}
}

// checkRoundTrip checks F4 for one payload, and that a refused payload leaves dst unchanged. It returns the framed payload,
// or nil if the payload was refused.
func checkRoundTrip(t testing.TB, f frame.Framer, payload []byte) []byte {
	t.Helper()
	before := []byte("before")
	dst := slices.Grow(slices.Clone(before), 8)
	out, err := f.Append(dst, payload)
	if !bytes.HasPrefix(out, before) || err != nil && len(out) != len(before) {
		t.Fatalf("%#v: Append of %x made %q of %q, error %v", f, payload, out, before, err)
	}
	if err != nil {
		return nil
	}
	framed := out[len(before):]
	packet, n, err := f.Split(framed)
	checkAnswer(t, f, framed, packet, n, err)
	if err != nil || n != len(framed) || !bytes.Equal(packet, payload) {
		t.Fatalf("%#v: payload %x is framed as %x and split into %x, %d, %v", f, payload, framed, packet, n, err)
	}
	packet, n, err = f.Split(append(framed, "\x00\xff\nlater"...))
	if err != nil || n != len(framed) || !bytes.Equal(packet, payload) {
		t.Fatalf("%#v: split into %x, %d, %v when more bytes follow %x", f, packet, n, err, framed)
	}
	return framed
}

// every has each framer with a few settings. The maxima are small enough for random streams to reach them.
var every = slices.Concat([]frame.Framer{
	frame.ServerCore{},
	frame.ServerCore{Max: 20},
	frame.Delimiter{Delimiter: []byte("\n"), Max: 20},
	frame.Delimiter{Delimiter: []byte("\n"), Max: 20, Keep: true},
	frame.Delimiter{Delimiter: []byte("\r\n\r\n"), Max: 20},
	frame.Delimiter{Delimiter: []byte("aab"), Max: 5},
	frame.Delimiter{Delimiter: []byte("aa")},
	frame.Delimiter{Delimiter: []byte("abaab"), Keep: true},
	frame.Line{},
	frame.Line{Max: 1},
	frame.Line{Max: 20},
	frame.Fixed{Size: 1},
	frame.Fixed{Size: 7},
	frame.Varint{},
	frame.Varint{Max: 20},
	frame.LengthField{MaxFrameLength: 24, LengthFieldLength: 1},
	frame.LengthField{MaxFrameLength: 24, LengthFieldLength: 4, LengthFieldOffset: 2, InitialBytesToStrip: 4,
		ByteOrder: binary.LittleEndian},
	frame.LengthField{LengthFieldLength: 8, InitialBytesToStrip: 8, LengthAdjustment: -8},
	frame.LengthField{LengthFieldLength: 1, InitialBytesToStrip: 9, LengthAdjustment: 4},
	frame.LengthField{MaxFrameLength: 600, LengthFieldLength: 1, LengthFieldOffset: 3, LengthAdjustment: -4},
}, documentedFramers())

// payload returns a random payload that f is likely to accept.
func payload(f frame.Framer, random *rand.Rand) []byte {
	const alphabet = "aaaabbbb\r\n\x00\x00\x01\x02\x05\x7f\x80\xff"
	p := make([]byte, random.IntN(1+random.IntN(30)))
	if fixed, ok := f.(frame.Fixed); ok && random.IntN(8) > 0 {
		p = make([]byte, fixed.Size)
	}
	for i := range p {
		p[i] = alphabet[random.IntN(len(alphabet))]
	}
	switch f := f.(type) {
	case frame.LengthField:
		carry(f, p)
	case frame.Delimiter:
		if f.Keep {
			p = append(p, f.Delimiter...)
		}
	}
	return p
}

// F2 and F4 hold for random payloads, and F2 for streams that are damaged at random.
func TestF2AndF4OnRandomStreams(t *testing.T) {
	taken := make([]int, len(every))
	for seed := range uint64(150) {
		for i, f := range every {
			random := rand.New(rand.NewPCG(seed, uint64(i)))
			var stream []byte
			var sent [][]byte
			for range random.IntN(12) {
				p := payload(f, random)
				if framed := checkRoundTrip(t, f, p); framed != nil {
					stream, sent = append(stream, framed...), append(sent, p)
				}
			}
			whole := &assembler{f: f}
			whole.feed(t, stream)
			if whole.err != nil || len(whole.buf) != 0 || !slices.EqualFunc(whole.packets, sent, bytes.Equal) {
				t.Fatalf("seed %d, %#v: sent %x, arrived %x, error %v, %d bytes left",
					seed, f, sent, whole.packets, whole.err, len(whole.buf))
			}
			taken[i] += len(sent)
			// Damage the stream for F2.
			for range random.IntN(4) {
				switch at := random.IntN(len(stream) + 1); random.IntN(3) {
				case 0:
					stream = stream[:at]
				case 1:
					stream = slices.Insert(stream, at, payload(f, random)...)
				case 2:
					stream = append(stream[:at:at], byte(random.Uint32()))
				}
			}
			checkStream(t, f, stream, random)
		}
	}
	for i, n := range taken {
		if n < 20 {
			t.Errorf("%#v accepted %d payloads, want 20 or more for the test to say something", every[i], n)
		}
	}
}

// F2 holds for random bytes.
func TestF2OnNoise(t *testing.T) {
	for seed := range uint64(100) {
		for i, f := range every {
			random := rand.New(rand.NewPCG(seed, uint64(i)))
			stream := make([]byte, random.IntN(100))
			for i := range stream {
				stream[i] = byte(random.Uint32()) >> random.IntN(8)
			}
			checkStream(t, f, stream, random)
		}
	}
}

// F5: an invalid field makes both methods return an error that names it, also without data.
func TestF5InvalidFieldsAreNamed(t *testing.T) {
	for _, tt := range []struct {
		f     frame.Framer
		field string
	}{
		{frame.ServerCore{Max: -1}, "ServerCore.Max"},
		{frame.ServerCore{Max: 65534}, "ServerCore.Max"},
		{frame.Delimiter{}, "Delimiter.Delimiter"},
		{frame.Delimiter{Delimiter: []byte{}, Keep: true}, "Delimiter.Delimiter"},
		{frame.Delimiter{Delimiter: []byte("x"), Max: -1}, "Delimiter.Max"},
		{frame.Line{Max: -1}, "Line.Max"},
		{frame.Fixed{}, "Fixed.Size"},
		{frame.Fixed{Size: -1}, "Fixed.Size"},
		{frame.Varint{Max: -1}, "Varint.Max"},
		{frame.LengthField{}, "LengthField.LengthFieldLength"},
		{frame.LengthField{LengthFieldLength: -1}, "LengthField.LengthFieldLength"},
		{frame.LengthField{LengthFieldLength: 5}, "LengthField.LengthFieldLength"},
		{frame.LengthField{LengthFieldLength: 9}, "LengthField.LengthFieldLength"},
		{frame.LengthField{LengthFieldLength: 2, MaxFrameLength: -1}, "LengthField.MaxFrameLength"},
		{frame.LengthField{LengthFieldLength: 2, MaxFrameLength: 1}, "LengthField.MaxFrameLength"},
		{frame.LengthField{LengthFieldLength: 2, LengthFieldOffset: 65535}, "LengthField.MaxFrameLength"},
		{frame.LengthField{LengthFieldLength: 2, LengthFieldOffset: math.MaxInt}, "LengthField.MaxFrameLength"},
		{frame.LengthField{LengthFieldLength: 2, LengthFieldOffset: -1}, "LengthField.LengthFieldOffset"},
		{frame.LengthField{LengthFieldLength: 2, LengthFieldOffset: math.MinInt}, "LengthField.LengthFieldOffset"},
		{frame.LengthField{LengthFieldLength: 2, InitialBytesToStrip: -1}, "LengthField.InitialBytesToStrip"},
		{frame.LengthField{LengthFieldLength: 2, InitialBytesToStrip: math.MaxInt}, "LengthField.InitialBytesToStrip"},
		{frame.LengthField{LengthFieldLength: 2, ByteOrder: middleEndian{}}, "LengthField.ByteOrder"},
	} {
		check := func(method string, err error) {
			t.Helper()
			if err == nil || !strings.HasPrefix(err.Error(), "frame: "+tt.field+" ") ||
				errors.Is(err, frame.ErrTooLarge) || errors.Is(err, frame.ErrMalformed) {
				t.Errorf("%#v: %s: error %v, want one about %s", tt.f, method, err, tt.field)
			}
		}
		for _, data := range [][]byte{nil, []byte("\x02\x00\x00\x00\x00\x00\n\n\n")} {
			packet, n, err := tt.f.Split(data)
			check("Split", err)
			checkAnswer(t, tt.f, data, packet, n, err)
			if r, ok := tt.f.(frame.Resumer); ok {
				_, _, err := r.SplitFrom(data, len(data))
				check("SplitFrom", err)
			}
		}
		_, err := tt.f.Append(nil, []byte("payload"))
		check("Append", err)
		checkRoundTrip(t, tt.f, []byte("payload")) // dst stays unchanged
	}
}

type middleEndian struct{ binary.ByteOrder }

func (middleEndian) Uint32(b []byte) uint32 {
	return uint32(b[1])<<24 | uint32(b[0])<<16 | uint32(b[3])<<8 | uint32(b[2])
}

func (middleEndian) String() string { return "middle endian" }

// F5: the largest int is a valid maximum, and a framer allocates nothing for it.
func TestF5LargestMaximum(t *testing.T) {
	for _, f := range []frame.Framer{
		frame.Delimiter{Delimiter: []byte("\r\n"), Max: math.MaxInt},
		frame.Line{Max: math.MaxInt},
		frame.Varint{Max: math.MaxInt},
		frame.Fixed{Size: 3},
		frame.LengthField{MaxFrameLength: math.MaxInt, LengthFieldLength: 8, InitialBytesToStrip: 8},
	} {
		if checkRoundTrip(t, f, []byte("abc")) == nil {
			t.Errorf("%#v refuses 3 bytes", f)
		}
		checkStream(t, f, []byte("no end of it"), rand.New(rand.NewPCG(1, 1)))
	}
	huge := frame.Fixed{Size: math.MaxInt}
	if _, n, err := huge.Split([]byte("abc")); n != 0 || err != nil {
		t.Errorf("Split of 3 bytes: n = %d, error %v, want 0 and none", n, err)
	}
}

// The text of an error has the sizes, and the prefix once.
func TestErrorsSayTheSizes(t *testing.T) {
	_, err := frame.Varint{}.Append(nil, make([]byte, 70000))
	if want := "frame: packet of 70000 bytes, at most 65536: packet too large"; err == nil || err.Error() != want {
		t.Errorf("error %q, want %q", err, want)
	}
	_, _, err = frame.ServerCore{}.Split([]byte{1, 0})
	if want := "frame: size of 1 bytes, at least 2: malformed packet"; err == nil || err.Error() != want {
		t.Errorf("error %q, want %q", err, want)
	}
}
