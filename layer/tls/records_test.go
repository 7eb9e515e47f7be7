package tls

import (
	"bytes"
	"testing"
)

// record is a record of n bytes of payload.
func record(kind byte, n int) []byte {
	return append([]byte{kind, 3, 3, byte(n >> 8), byte(n)}, bytes.Repeat([]byte{9}, n)...)
}

func TestTake(t *testing.T) {
	stream := bytes.Join([][]byte{record(23, 10), record(23, 0), record(23, 30), record(23, 5)}, nil) // borders at 15, 20, 55, 65
	for _, tt := range []struct {
		fed, room, avail, most int // what was fed before, and what there is
		n, whole               int
	}{
		{0, 100, 65, 9, 65, 4},
		{0, 100, 65, 1, 15, 1},
		{0, 60, 65, 9, 55, 3},
		{0, 100, 64, 9, 55, 3},
		{0, 100, 14, 9, 14, 0},
		{0, 3, 65, 9, 3, 0},
		{3, 100, 65, 9, 62, 4},
		{3, 100, 65, 1, 12, 1},
		{20, 10, 65, 9, 10, 0},
		{30, 25, 65, 1, 25, 1},
		{30, 24, 65, 1, 24, 0},
	} {
		var r records
		r.pass(stream[:tt.fed])
		p := make([]byte, tt.room)
		n, whole := r.take(p, stream[tt.fed:tt.avail], tt.most)
		if n != tt.n || whole != tt.whole || !bytes.Equal(p[:n], stream[tt.fed:tt.fed+n]) {
			t.Errorf("take %+v: %d bytes, %d records", tt, n, whole)
		}
		var want records
		want.pass(stream[:tt.fed+n])
		if r.got != want.got || r.got == headerSize && r.left != want.left {
			t.Errorf("take %+v: position %+v, want %+v", tt, r, want)
		}
	}
}

// However the stream is cut, the number of records is the same.
func TestPass(t *testing.T) {
	stream := bytes.Join([][]byte{record(23, 300), record(22, 0), record(21, 2), record(23, maxPayload)}, nil)
	for _, cut := range []int{1, 2, 7, 100, len(stream)} {
		var r records
		whole := 0
		for at := 0; at < len(stream); at += cut {
			whole += r.pass(stream[at:min(at+cut, len(stream))])
		}
		if whole != 4 || r.got != 0 {
			t.Errorf("cut %d: %d records, position %+v", cut, whole, r)
		}
	}
	var r records
	if r.pass([]byte{23, 3, 3, 0xff, 0xff}) == 0 {
		t.Error("a record that is too long has to be seen at once")
	}
	r = records{}
	if r.pass([]byte{23, 4, 3, 0, 1}) == 0 {
		t.Error("a record of another version has to be seen at once")
	}
}

func TestHello(t *testing.T) {
	message := append([]byte{typeClientHello, 0, 1, 44}, make([]byte, 300)...) // 304 bytes
	split := func(sizes ...int) (stream []byte) {
		rest := message
		for _, n := range append(sizes, len(message)) {
			n = min(n, len(rest))
			stream = append(append(stream, typeHandshake, 3, 1, byte(n>>8), byte(n)), rest[:n]...)
			if rest = rest[n:]; len(rest) == 0 {
				break
			}
		}
		return stream
	}
	for name, tt := range map[string]struct {
		stream []byte
		due    int // the number of bytes that make it due
	}{
		"one record":         {split(), 309},
		"three records":      {split(1, 2), 319},
		"other message":      {record(typeHandshake, 10), 15},
		"not TLS":            {[]byte("GET / HTTP/1.1"), 5},
		"alert":              {record(typeAlert, 2), 5},
		"record too long":    {[]byte{typeHandshake, 3, 1, 0x50, 0, 1}, 5},
		"empty record":       {record(typeHandshake, 0), 5},
		"empty second":       {append(split(100)[:105], record(typeHandshake, 0)...), 110},
		"message too long":   {append([]byte{typeHandshake, 3, 1, 0, 5, 1, 2, 0, 0}, 0), 10},
		"longest that comes": {append([]byte{typeHandshake, 3, 1, 0, 5, 1, 1, 0, 0}, 0), 0},
	} {
		for _, cut := range []int{1, 3, len(tt.stream)} {
			var h hello
			due := 0
			for at := 0; at < len(tt.stream) && due == 0; at += cut {
				if end := min(at+cut, len(tt.stream)); h.pass(tt.stream[at:end]) {
					due = end
				}
			}
			if due < tt.due || due >= tt.due+cut && cut < len(tt.stream) || tt.due == 0 && due > 0 {
				t.Errorf("%s, cut %d: due at %d, want %d", name, cut, due, tt.due)
			}
		}
	}
	// What comes behind the hello is passed over too: the position is right.
	var h hello
	if h.pass(append(split(), 20, 3, 3)); h.records.got != 3 {
		t.Errorf("3 bytes behind the hello, %d were passed", h.records.got)
	}
}

// A split hello is the same message, in records that fit; what comes behind it is untouched.
func TestSplitHello(t *testing.T) {
	for _, size := range []int{1, pieceSize, pieceSize + 1, 1500, 1801, 5000, maxPlain, maxPlain + 1} {
		for _, rest := range []string{"", "behind"} {
			message := pattern(size)
			b := appendBytes(nil, []byte{typeHandshake, 3, 1, byte(size >> 8), byte(size)})
			b = appendBytes(appendBytes(b, message), []byte(rest))
			b = splitHello(b)
			var got []byte
			stream, most, count := b.B, 0, 0
			for len(stream) > len(rest) {
				n := int(stream[3])<<8 | int(stream[4])
				if !bytes.Equal(stream[:3], []byte{typeHandshake, 3, 1}) {
					t.Fatalf("%d bytes: header %x", size, stream[:headerSize])
				}
				got = append(got, stream[headerSize:headerSize+n]...)
				stream, most, count = stream[headerSize+n:], max(most, n), count+1
			}
			if !bytes.Equal(got, message) || string(stream) != rest || count&(count-1) != 0 {
				t.Errorf("%d bytes: %d came out in %d records, %q behind them", size, len(got), count, stream)
			}
			if most > pieceSize && size <= maxPlain || size > maxPlain && count > 1 {
				t.Errorf("%d bytes in %d records of at most %d", size, count, most)
			}
			b.Release()
		}
	}
	for _, b := range [][]byte{record(23, 1000), record(typeHandshake, 1000)[:900]} {
		p := appendBytes(nil, b)
		if p = splitHello(p); !bytes.Equal(p.B, b) {
			t.Error("no whole record of a handshake, and it was split")
		}
		p.Release()
	}
}

// take copies the stream, in order and whole, and counts as pass does.
func FuzzTake(f *testing.F) {
	f.Add(append(record(23, 20), record(22, 3)...), byte(7), byte(30))
	f.Add([]byte("\x17\x03\x03\xff\xff"), byte(1), byte(1))
	f.Fuzz(func(t *testing.T, stream []byte, room, avail byte) {
		var r, all records
		var out []byte
		whole := 0
		p := make([]byte, int(room)+1)
		for at := 0; at < len(stream); {
			n, k := r.take(p, stream[at:min(len(stream), at+int(avail)+1)], 1+int(room)%3)
			if n == 0 {
				t.Fatalf("nothing was taken at %d", at)
			}
			out = append(out, p[:n]...)
			at, whole = at+n, whole+k
		}
		want := 0
		for b := stream; len(b) > 0; {
			n, _, end := all.next(b)
			if b = b[n:]; end {
				want++
			}
		}
		if !bytes.Equal(out, stream) || whole != want {
			t.Errorf("%d bytes and %d records, want %d and %d", len(out), whole, len(stream), want)
		}
	})
}
