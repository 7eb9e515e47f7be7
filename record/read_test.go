package record

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
)

// heap returns the bytes of the objects in use.
func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// allocated returns the bytes that f allocates, whether they are in use at its end or not.
func allocated(f func()) int64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return int64(after.TotalAlloc - before.TotalAlloc)
}

// A recording of 48 MiB takes less than 1 MiB, and so does reading its events.
func TestRecordingStaysInItsFile(t *testing.T) {
	w, path := create(t, Options{Memory: 128 << 20})
	const sessions, size = 8, 6 << 20
	chunk := pattern(16<<10, 3)
	streams := make([]*Stream, sessions)
	for i := range streams {
		streams[i] = w.Begin(info(uint64(i + 1)))
	}
	for range size / len(chunk) {
		for _, s := range streams {
			s.Received(time.Time{}, chunk)
		}
	}
	must(t, w.Close())
	before := heap()
	r := open(t, path)
	if took := heap() - before; took > 1<<20 {
		t.Errorf("the recording takes %d bytes", took)
	}
	if len(r.Sessions) != sessions {
		t.Fatalf("%d sessions", len(r.Sessions))
	}
	for _, s := range r.Sessions {
		n := 0
		took := allocated(func() {
			for e, err := range s.Events() {
				must(t, err)
				n += len(e.Data)
			}
		})
		if n != size || took > 1<<20 {
			t.Errorf("session %d has %d bytes, want %d; to read them allocates %d", s.ID, n, size, took)
		}
	}
}

// A file that was made to take much memory takes little: long blocks, many sections, interfaces and sessions.
func TestHostileFiles(t *testing.T) {
	header := appendHeader(nil)
	section := header[:le.Uint32(header[4:])]
	network := header[len(section):]
	block := func(kind, length uint32) []byte {
		return le.AppendUint32(le.AppendUint32(nil, kind), length)
	}
	packets := func(n int) (b []byte) {
		for i := range n {
			p := packet{src: netip.AddrPortFrom(netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, uint32(i)))), 1), dst: netip.MustParseAddrPort("192.0.2.1:1")}
			b = p.append(b)
		}
		return b
	}
	long := func(kind uint32) io.ReaderAt { // a block of 3 GiB
		b := append(bytes.Clone(header), block(kind, 3<<30)...)
		return &sparse{map[int64][]byte{0: b, int64(len(header)) + 3<<30 - 4: block(3<<30, 0)[:4]}}
	}
	for name, tt := range map[string]struct {
		file io.ReaderAt
		size int64
		want string // of the error, "" for none
		most int64  // bytes allocated
	}{
		"a block longer than the file":   {bytes.NewReader(append(bytes.Clone(header), append(block(blockPacket, 1<<32-4), make([]byte, 100)...)...)), int64(len(header)) + 108, "", 1 << 20},
		"a packet of 3 GiB":              {long(blockPacket), int64(len(header)) + 3<<30, "a block has a length of 3221225472, want 1048576 at most", 1 << 20},
		"an unknown block of 3 GiB":      {long(99), int64(len(header)) + 3<<30, "", 1 << 20},
		"many sections":                  {bytes.NewReader(bytes.Repeat(section, mostSections+1)), int64((mostSections + 1) * len(section)), "it has more than 65536 sections", 16 << 20},
		"many interfaces":                {bytes.NewReader(append(bytes.Clone(header), bytes.Repeat(network, mostInterfaces)...)), int64(len(header) + mostInterfaces*len(network)), "a section has more than 4096 interfaces", 4 << 20},
		"a session with each packet":     {bytes.NewReader(append(bytes.Clone(header), packets(10_000)...)), int64(len(header) + len(packets(10_000))), "", 10_000*1500 + 1<<20},
		"more sessions than are allowed": {bytes.NewReader(append(bytes.Clone(header), packets(10_001)...)), int64(len(header) + len(packets(10_001))), "it has more than 10000 sessions", 10_000*1500 + 1<<20},
	} {
		var err error
		var r *Recording
		if n := allocated(func() { r, err = read(tt.file, tt.size, 10_000) }); n > tt.most {
			t.Errorf("%s: %d bytes are allocated, want %d at most", name, n, tt.most)
		}
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) || err == nil && r == nil {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
}

// sparse is a file of zeros, but for some parts.
type sparse struct{ parts map[int64][]byte }

func (s *sparse) ReadAt(p []byte, off int64) (int, error) {
	clear(p)
	for at, b := range s.parts {
		if from := max(at, off); from < at+int64(len(b)) && from < off+int64(len(p)) {
			copy(p[from-off:], b[from-at:])
		}
	}
	return len(p), nil
}

// A file that changes, and one that was closed, is an error of Events; what is no regular file is one of Open.
func TestFileChanges(t *testing.T) {
	w, path := create(t, Options{})
	s := w.Begin(info(1))
	s.Received(time.Time{}, []byte("hello"))
	s.Closed(false, errors.New("done"))
	must(t, w.Close())
	last := func(r *Recording) (err error) {
		for _, err = range r.Sessions[0].Events() {
		}
		return err
	}
	r, err := Open(path)
	must(t, err)
	must(t, last(r))
	must(t, os.WriteFile(path, bytes.Repeat([]byte("x"), 5000), 0o600))
	if err := last(r); err == nil || !strings.Contains(err.Error(), "the file has changed since Open") {
		t.Errorf("of another content: %v", err)
	}
	must(t, os.Truncate(path, 10))
	if err := last(r); !errors.Is(err, io.EOF) || !strings.HasPrefix(err.Error(), "record: at byte ") {
		t.Errorf("of none: %v", err)
	}
	must(t, r.Close())
	if err := last(r); !errors.Is(err, os.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
	if err := r.Close(); err == nil {
		t.Error("a second Close has no error")
	}
	if _, err := Open(os.DevNull); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("record: %s: it is no regular file", os.DevNull)) {
		t.Errorf("no file: %v", err)
	}
}
