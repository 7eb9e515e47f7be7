package frame_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/servercore-go/servercore/frame"
)

// documented are the seven examples of Netty's documentation: the parameters, the bytes on the wire, and the packet.
var documented = []struct {
	name          string
	f             frame.LengthField
	framed, after string
}{
	{"2 bytes at 0, header kept",
		frame.LengthField{LengthFieldLength: 2},
		"\x00\x0cHELLO, WORLD", "\x00\x0cHELLO, WORLD"},
	{"2 bytes at 0, header stripped",
		frame.LengthField{LengthFieldLength: 2, InitialBytesToStrip: 2},
		"\x00\x0cHELLO, WORLD", "HELLO, WORLD"},
	{"2 bytes at 0, length of the whole message",
		frame.LengthField{LengthFieldLength: 2, LengthAdjustment: -2},
		"\x00\x0eHELLO, WORLD", "\x00\x0eHELLO, WORLD"},
	{"3 bytes behind a header of 2",
		frame.LengthField{LengthFieldOffset: 2, LengthFieldLength: 3},
		"\xca\xfe\x00\x00\x0cHELLO, WORLD", "\xca\xfe\x00\x00\x0cHELLO, WORLD"},
	{"3 bytes before a header of 2",
		frame.LengthField{LengthFieldLength: 3, LengthAdjustment: 2},
		"\x00\x00\x0c\xca\xfeHELLO, WORLD", "\x00\x00\x0c\xca\xfeHELLO, WORLD"},
	{"2 bytes at 1 of a header of 4, HDR1 and length stripped",
		frame.LengthField{LengthFieldOffset: 1, LengthFieldLength: 2, LengthAdjustment: 1, InitialBytesToStrip: 3},
		"\xca\x00\x0c\xfeHELLO, WORLD", "\xfeHELLO, WORLD"},
	{"2 bytes at 1 of a header of 4, HDR1 and length stripped, length of the whole message",
		frame.LengthField{LengthFieldOffset: 1, LengthFieldLength: 2, LengthAdjustment: -3, InitialBytesToStrip: 3},
		"\xca\x00\x10\xfeHELLO, WORLD", "\xfeHELLO, WORLD"},
}

func documentedFramers() (all []frame.Framer) {
	for _, d := range documented {
		all = append(all, d.f)
	}
	return all
}

func TestLengthFieldAsDocumentedByNetty(t *testing.T) {
	for _, d := range documented {
		checkSplits(t, []splitCase{{d.name, d.f, d.framed + "\x00", d.after, len(d.framed), nil}})
		little, after := d.f, d.after
		little.ByteOrder = binary.LittleEndian
		if little.InitialBytesToStrip == 0 {
			after = swapped(after, little)
		}
		checkSplits(t, []splitCase{{d.name + ", little-endian", little, swapped(d.framed, little), after, len(d.framed), nil}})

		// Append makes the same bytes again, except for a stripped header byte that is not the length.
		want := strings.ReplaceAll(d.framed, "\xca\x00", "\x00\x00")
		checkAppends(t, []appendCase{{d.name, d.f, d.after, want, nil}})
	}
}

// swapped returns the frame with the bytes of its length field in the opposite order.
func swapped(framed string, f frame.LengthField) string {
	b := []byte(framed)
	slices.Reverse(b[f.LengthFieldOffset : f.LengthFieldOffset+f.LengthFieldLength])
	return string(b)
}

func TestLengthFieldSplit(t *testing.T) {
	of := func(width int) frame.LengthField {
		return frame.LengthField{LengthFieldLength: width, InitialBytesToStrip: width}
	}
	little := func(f frame.LengthField) frame.LengthField { f.ByteOrder = binary.LittleEndian; return f }
	adjusted := func(by int) frame.LengthField {
		return frame.LengthField{LengthFieldLength: 2, LengthAdjustment: by}
	}
	small := frame.LengthField{MaxFrameLength: 6, LengthFieldLength: 2}
	checkSplits(t, []splitCase{
		{name: "nothing", f: of(2)},
		{name: "half a length", f: of(2), data: "\x00"},
		{name: "length alone", f: of(2), data: "\x00\x03"},
		{name: "one byte missing", f: of(2), data: "\x00\x03ab"},
		{name: "empty", f: of(2), data: "\x00\x00\x00", n: 2},
		{name: "1 byte", f: of(1), data: "\x03abcd", packet: "abc", n: 4},
		{name: "2 bytes", f: of(2), data: "\x00\x03abcd", packet: "abc", n: 5},
		{name: "3 bytes", f: of(3), data: "\x00\x00\x03abcd", packet: "abc", n: 6},
		{name: "4 bytes", f: of(4), data: "\x00\x00\x00\x03abcd", packet: "abc", n: 7},
		{name: "8 bytes", f: of(8), data: "\x00\x00\x00\x00\x00\x00\x00\x03abcd", packet: "abc", n: 11},
		{name: "1 byte, little-endian", f: little(of(1)), data: "\x03abcd", packet: "abc", n: 4},
		{name: "2 bytes, little-endian", f: little(of(2)), data: "\x03\x00abcd", packet: "abc", n: 5},
		{name: "3 bytes, little-endian", f: little(of(3)), data: "\x03\x00\x00abcd", packet: "abc", n: 6},
		{name: "4 bytes, little-endian", f: little(of(4)), data: "\x03\x00\x00\x00abcd", packet: "abc", n: 7},
		{name: "8 bytes, little-endian", f: little(of(8)), data: "\x03\x00\x00\x00\x00\x00\x00\x00abcd", packet: "abc", n: 11},
		{name: "every byte counts", f: of(3), data: "\x00\x01\x02" + strings.Repeat("x", 258),
			packet: strings.Repeat("x", 258), n: 261},
		{name: "part of the length stripped", f: frame.LengthField{LengthFieldLength: 2, InitialBytesToStrip: 1},
			data: "\x00\x03abcd", packet: "\x03abc", n: 5},
		{name: "part of the payload stripped", f: frame.LengthField{LengthFieldLength: 2, InitialBytesToStrip: 4},
			data: "\x00\x03abcd", packet: "c", n: 5},
		{name: "all is stripped", f: frame.LengthField{LengthFieldLength: 2, InitialBytesToStrip: 5},
			data: "\x00\x03abcd", n: 5},
		{name: "more than all is stripped", f: frame.LengthField{LengthFieldLength: 2, InitialBytesToStrip: 6},
			data: "\x00\x03", err: frame.ErrMalformed},
		{name: "shorter than its header", f: adjusted(-2), data: "\x00\x01", err: frame.ErrMalformed},
		{name: "as long as its header", f: adjusted(-2), data: "\x00\x02abc", packet: "\x00\x02", n: 2},
		{name: "at the maximum", f: small, data: "\x00\x04abcde", packet: "\x00\x04abcd", n: 6},
		{name: "F3, refused on the header", f: small, data: "\x00\x05", err: frame.ErrTooLarge},
		{name: "F3, not before", f: small, data: "\x00"},
		{name: "room for a header only", f: frame.LengthField{MaxFrameLength: 4, LengthFieldLength: 4},
			data: "\x00\x00\x00\x00", packet: "\x00\x00\x00\x00", n: 4},
		{name: "2^16-1", f: of(2), data: "\xff\xff", err: frame.ErrTooLarge},
		{name: "2^32-1", f: of(4), data: "\xff\xff\xff\xff", err: frame.ErrTooLarge},
		{name: "2^63-1", f: of(8), data: "\x7f\xff\xff\xff\xff\xff\xff\xff", err: frame.ErrTooLarge},
		{name: "2^63", f: of(8), data: "\x80\x00\x00\x00\x00\x00\x00\x00", err: frame.ErrMalformed},
		{name: "2^64-1", f: of(8), data: "\xff\xff\xff\xff\xff\xff\xff\xff", err: frame.ErrMalformed},
		{name: "2^63-1, largest maximum", data: "\x7f\xff\xff\xff\xff\xff\xff\xff", err: frame.ErrTooLarge,
			f: frame.LengthField{MaxFrameLength: math.MaxInt, LengthFieldLength: 8}},
		{name: "2^63-1 and the largest adjustment", data: "\x7f\xff\xff\xff\xff\xff\xff\xff", err: frame.ErrTooLarge,
			f: frame.LengthField{MaxFrameLength: math.MaxInt, LengthFieldLength: 8, LengthAdjustment: math.MaxInt}},
		{name: "2^63-1 and the smallest adjustment", data: "\x7f\xff\xff\xff\xff\xff\xff\xff", err: smallestAdjustment(),
			f: frame.LengthField{MaxFrameLength: math.MaxInt, LengthFieldLength: 8, LengthAdjustment: math.MinInt}},
		{name: "largest adjustment", f: adjusted(math.MaxInt), data: "\x00\x00", err: frame.ErrTooLarge},
		{name: "smallest adjustment", f: adjusted(math.MinInt), data: "\xff\xff", err: frame.ErrMalformed},
	})
}

// smallestAdjustment returns the error for a length of 2^63-1 with the smallest adjustment: the sum is negative if an int has 64 bits,
// and far too large if it has 32.
func smallestAdjustment() error {
	if math.MaxInt > math.MaxInt32 {
		return frame.ErrMalformed
	}
	return frame.ErrTooLarge
}

func TestLengthFieldAppend(t *testing.T) {
	plain := frame.LengthField{LengthFieldLength: 1, InitialBytesToStrip: 1}
	whole := frame.LengthField{LengthFieldLength: 2}
	checkAppends(t, []appendCase{
		{name: "empty", f: plain, framed: "\x00"},
		{name: "payload", f: plain, payload: "abc", framed: "\x03abc"},
		{name: "the most the field can say", f: plain, payload: strings.Repeat("x", 255),
			framed: "\xff" + strings.Repeat("x", 255)},
		{name: "more than the field can say", f: plain, payload: strings.Repeat("x", 256), err: frame.ErrTooLarge},
		{name: "at the maximum", f: frame.LengthField{MaxFrameLength: 4, LengthFieldLength: 1, InitialBytesToStrip: 1},
			payload: "abc", framed: "\x03abc"},
		{name: "over the maximum", f: frame.LengthField{MaxFrameLength: 4, LengthFieldLength: 1, InitialBytesToStrip: 1},
			payload: "abcd", err: frame.ErrTooLarge},
		{name: "the length counts itself",
			f:       frame.LengthField{LengthFieldLength: 2, LengthAdjustment: -2, InitialBytesToStrip: 2},
			payload: "abc", framed: "\x00\x05abc"},
		{name: "carried length", f: whole, payload: "\x00\x03abc", framed: "\x00\x03abc"},
		{name: "carried length is wrong", f: whole, payload: "\x00\x04abc", err: frame.ErrMalformed},
		{name: "carried length is missing", f: whole, payload: "a", err: frame.ErrMalformed},
		{name: "carried header", f: frame.LengthField{LengthFieldOffset: 2, LengthFieldLength: 2},
			payload: "TY\x00\x03abc", framed: "TY\x00\x03abc"},
		{name: "half of the length is carried", f: frame.LengthField{LengthFieldLength: 2, InitialBytesToStrip: 1},
			payload: "\x03abc", framed: "\x00\x03abc"},
		{name: "half of the length is carried and wrong", f: frame.LengthField{LengthFieldLength: 2, InitialBytesToStrip: 1},
			payload: "\x04abc", err: frame.ErrMalformed},
		{name: "stripped header becomes 0",
			f:       frame.LengthField{LengthFieldOffset: 2, LengthFieldLength: 1, InitialBytesToStrip: 5, LengthAdjustment: 2},
			payload: "abc", framed: "\x00\x00\x03\x00\x00abc"},
		{name: "the adjustment leaves less than nothing",
			f:       frame.LengthField{LengthFieldLength: 1, LengthAdjustment: 2, InitialBytesToStrip: 1},
			payload: "a", err: frame.ErrMalformed},
		{name: "largest adjustment",
			f:       frame.LengthField{LengthFieldLength: 8, LengthAdjustment: math.MaxInt, InitialBytesToStrip: 8},
			payload: "abc", err: frame.ErrMalformed},
		{name: "smallest adjustment",
			f:       frame.LengthField{LengthFieldLength: 2, LengthAdjustment: math.MinInt, InitialBytesToStrip: 2},
			payload: "abc", err: frame.ErrTooLarge},
	})
	if math.MaxInt > math.MaxInt32 {
		checkAppends(t, []appendCase{{name: "smallest adjustment, length over 2^63-1", payload: "abc", err: frame.ErrTooLarge,
			f: frame.LengthField{LengthFieldLength: 8, LengthAdjustment: math.MinInt, InitialBytesToStrip: 8}}})
	}
}

// carry writes the part of the length that f does not strip into the payload, where Append requires it. All numbers are small.
func carry(f frame.LengthField, payload []byte) {
	after := f.LengthFieldOffset + f.LengthFieldLength
	length := uint64(f.InitialBytesToStrip + len(payload) - after - f.LengthAdjustment)
	field := binary.BigEndian.AppendUint64(nil, length)[8-f.LengthFieldLength:]
	if f.ByteOrder == binary.LittleEndian {
		field = binary.LittleEndian.AppendUint64(nil, length)[:f.LengthFieldLength]
	}
	for i, b := range field {
		if at := f.LengthFieldOffset + i - f.InitialBytesToStrip; at >= 0 && at < len(payload) {
			payload[at] = b
		}
	}
}

// F4 for every small configuration: Append accepts a payload exactly if a frame for it exists, and Split then returns it.
func TestF4LengthFieldConfigurations(t *testing.T) {
	for _, width := range []int{1, 2, 3, 4, 8} {
		for offset := range 4 {
			for adjustment := -12; adjustment <= 6; adjustment++ {
				for strip := range 15 {
					for _, order := range []binary.ByteOrder{nil, binary.LittleEndian} {
						f := frame.LengthField{MaxFrameLength: 40, LengthFieldOffset: offset, LengthFieldLength: width,
							LengthAdjustment: adjustment, InitialBytesToStrip: strip, ByteOrder: order}
						for size := range 45 {
							p := bytes.Repeat([]byte{0xee}, size)
							carry(f, p)
							framed := checkRoundTrip(t, f, p)
							total := strip + size
							length := total - offset - width - adjustment
							if exists := total >= offset+width && total <= 40 && length >= 0; exists != (framed != nil) {
								t.Fatalf("%#v: a payload of %d bytes is taken: %v, want %v", f, size, framed != nil, exists)
							}
						}
					}
				}
			}
		}
	}
}

// netty returns what Split must return by the documentation of Netty's decoder, computed with numbers that cannot overflow.
func netty(f frame.LengthField, data []byte) (packet []byte, n int, outcome string) {
	most := big.NewInt(int64(f.MaxFrameLength))
	end := new(big.Int).Add(big.NewInt(int64(f.LengthFieldOffset)), big.NewInt(int64(f.LengthFieldLength)))
	if f.MaxFrameLength == 0 {
		most.SetInt64(frame.DefaultMax)
	}
	switch {
	case f.MaxFrameLength < 0, f.LengthFieldOffset < 0, f.InitialBytesToStrip < 0, f.InitialBytesToStrip > 65536,
		end.Cmp(most) > 0, !strings.Contains("1 2 3 4 8", fmt.Sprint(f.LengthFieldLength)):
		return nil, 0, "invalid"
	case big.NewInt(int64(len(data))).Cmp(end) < 0:
		return nil, 0, "none"
	}
	field := bytes.Clone(data[f.LengthFieldOffset : f.LengthFieldOffset+f.LengthFieldLength])
	if f.ByteOrder == binary.LittleEndian {
		slices.Reverse(field)
	}
	length := new(big.Int).SetBytes(field)
	size := new(big.Int).Add(length, big.NewInt(int64(f.LengthAdjustment)))
	size.Add(size, end)
	switch {
	case length.Cmp(big.NewInt(math.MaxInt64)) > 0, size.Cmp(end) < 0:
		return nil, 0, "malformed"
	case size.Cmp(most) > 0:
		return nil, 0, "too large"
	case size.Cmp(big.NewInt(int64(f.InitialBytesToStrip))) < 0:
		return nil, 0, "malformed"
	case size.Cmp(big.NewInt(int64(len(data)))) > 0:
		return nil, 0, "none"
	}
	n = int(size.Int64())
	return data[f.InitialBytesToStrip:n], n, "none"
}

func checkNetty(t testing.TB, f frame.LengthField, data []byte) {
	t.Helper()
	packet, n, err := f.Split(data)
	checkAnswer(t, f, data, packet, n, err)
	wantPacket, wantN, outcome := netty(f, data)
	got := kind(err)
	if err != nil && strings.HasPrefix(got, "frame: LengthField.") {
		got = "invalid"
	}
	if !bytes.Equal(packet, wantPacket) || n != wantN || got != outcome {
		t.Fatalf("%#v: Split(%x) = %x, %d, %v, want %x, %d, %s", f, data, packet, n, err, wantPacket, wantN, outcome)
	}
}

// Split does what Netty's decoder does, for random configurations and lengths, most of them near the limits of integers.
func TestLengthFieldMeansWhatNettyMeans(t *testing.T) {
	edges := []int64{0, 1, 2, 8, 255, 65535, 65536, math.MaxInt32, math.MaxInt32 + 1, math.MaxUint32, math.MaxInt64}
	for seed := range uint64(100_000) {
		random := rand.New(rand.NewPCG(seed, 0))
		number := func() int {
			switch random.IntN(4) {
			case 0:
				return int(edges[random.IntN(len(edges))] + random.Int64N(5) - 2)
			case 1:
				return -int(edges[random.IntN(len(edges))] + random.Int64N(5) - 2)
			}
			return random.IntN(40) - 10
		}
		f := frame.LengthField{
			MaxFrameLength:      max(number(), random.IntN(30)),
			LengthFieldOffset:   max(0, number()) & 0xf,
			LengthFieldLength:   []int{1, 2, 3, 4, 8}[random.IntN(5)],
			LengthAdjustment:    number(),
			InitialBytesToStrip: max(0, number()),
		}
		if random.IntN(2) == 0 {
			f.ByteOrder = binary.LittleEndian
		}
		data := make([]byte, random.IntN(60))
		for i := range data {
			data[i] = byte(random.Uint32()) >> random.IntN(9) // 0 is frequent
		}
		if length := uint64(number()); len(data) >= f.LengthFieldOffset+8 && random.IntN(2) == 0 {
			if f.ByteOrder == nil {
				copy(data[f.LengthFieldOffset:], binary.BigEndian.AppendUint64(nil, length)[8-f.LengthFieldLength:])
			} else {
				copy(data[f.LengthFieldOffset:], binary.LittleEndian.AppendUint64(nil, length)[:f.LengthFieldLength])
			}
		}
		checkNetty(t, f, data)
	}
}

// The documented configurations, with random data.
func FuzzLengthField(f *testing.F) {
	for i, d := range documented {
		f.Add(uint8(i), false, []byte(d.framed+d.framed), uint64(1))
	}
	f.Fuzz(func(t *testing.T, which uint8, little bool, data []byte, seed uint64) {
		framer := documented[int(which)%len(documented)].f
		if little {
			framer.ByteOrder = binary.LittleEndian
		}
		checkNetty(t, framer, data)
		fuzz(t, framer, data, seed)
		data = bytes.Clone(data) // the fuzzer's must not be written to
		carry(framer, data)
		checkRoundTrip(t, framer, data)
	})
}

// Random configurations, with random data.
func FuzzLengthFieldConfig(f *testing.F) {
	f.Add(int64(0), int64(1), int64(2), int64(-3), int64(3), false, []byte("\xca\x00\x10\xfeHELLO, WORLD\xca"), uint64(1))
	f.Fuzz(func(t *testing.T, most, offset, width, adjustment, strip int64, little bool, data []byte, seed uint64) {
		framer := frame.LengthField{MaxFrameLength: int(most), LengthFieldOffset: int(offset), LengthFieldLength: int(width),
			LengthAdjustment: int(adjustment), InitialBytesToStrip: int(strip)}
		if little {
			framer.ByteOrder = binary.LittleEndian
		}
		checkNetty(t, framer, data)
		fuzz(t, framer, data, seed)
		if _, _, err := framer.Split(nil); err == nil {
			data = bytes.Clone(data)
			carry(framer, data)
			checkRoundTrip(t, framer, data)
		}
	})
}
