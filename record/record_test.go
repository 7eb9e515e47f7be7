package record

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

var quiet = slog.New(slog.DiscardHandler)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// create makes a Writer in a folder of the test's.
func create(t testing.TB, o Options) (*Writer, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sessions.pcapng")
	if o.Logger == nil {
		o.Logger = quiet
	}
	w, err := Create(path, o)
	must(t, err)
	t.Cleanup(func() { _ = w.Close() })
	return w, path
}

func open(t testing.TB, path string) *Recording {
	t.Helper()
	r, err := Open(path)
	must(t, err)
	t.Cleanup(func() { must(t, r.Close()) })
	return r
}

// readAll is read for a file in memory.
func readAll(b []byte) (*Recording, error) {
	return read(bytes.NewReader(b), int64(len(b)), mostSessions)
}

// events returns all of them.
func (s *Session) events(t testing.TB) (all []Event) {
	t.Helper()
	for e, err := range s.Events() {
		must(t, err)
		e.Data = bytes.Clone(e.Data)
		all = append(all, e)
	}
	return all
}

func tcp(s string) net.Addr { return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(s)) }

// info is a session with addresses of IPv4.
func info(id uint64) Info {
	return Info{ID: id, Local: tcp("192.0.2.1:7777"), Remote: tcp(fmt.Sprintf("198.51.100.%d:%d", id%250+1, 1024+id%60_000))}
}

// pattern is n bytes that repeat with no power of two.
func pattern(n, from int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte((i + from) % 251)
	}
	return b
}

// stream returns the bytes of one side.
func (s *Session) stream(t testing.TB, client bool) (b []byte) {
	t.Helper()
	for _, e := range s.events(t) {
		if e.Client == client {
			b = append(b, e.Data...)
		}
	}
	return b
}

// sequence describes the events.
func (s *Session) sequence(t testing.TB) string {
	t.Helper()
	var b strings.Builder
	for _, e := range s.events(t) {
		side := "server"
		if e.Client {
			side = "client"
		}
		fmt.Fprintf(&b, "%s %v %d", side, e.Kind, len(e.Data))
		if e.Lost > 0 {
			fmt.Fprintf(&b, " lost %d", e.Lost)
		}
		b.WriteString("; ")
	}
	return strings.TrimSuffix(b.String(), "; ")
}

// kinds are sessions of each kind that a Writer tells apart.
func kinds() map[string]Info {
	return map[string]Info{
		"IPv4":        info(1),
		"IPv6":        {ID: 2, Local: tcp("[2001:db8::1]:443"), Remote: tcp("[2001:db8::2]:5555")},
		"zone":        {ID: 3, Local: &net.TCPAddr{IP: net.ParseIP("fe80::1"), Port: 1, Zone: "eth0"}, Remote: &net.TCPAddr{IP: net.ParseIP("fe80::2"), Port: 2, Zone: "eth0"}},
		"both":        {ID: 4, Local: tcp("[2001:db8::1]:443"), Remote: tcp("192.0.2.9:5555")},
		"mapped":      {ID: 5, Local: &net.TCPAddr{IP: net.ParseIP("192.0.2.1").To16(), Port: 7}, Remote: &net.TCPAddr{IP: net.ParseIP("192.0.2.2").To16(), Port: 8}},
		"unix":        {ID: 6, Local: &net.UnixAddr{Name: "/run/game.sock", Net: "unix"}, Remote: &net.UnixAddr{Net: "unix"}},
		"dialed":      {ID: 7, Dialed: true, Local: tcp("192.0.2.1:40000"), Remote: tcp("192.0.2.5:80")},
		"dialed unix": {ID: 8 + 1<<33, Dialed: true, Local: &net.UnixAddr{Net: "unix"}, Remote: &net.UnixAddr{Name: "/run/a", Net: "unix"}},
	}
}

// What is recorded is what is read back, for each kind of session, and each packet is right.
func TestRecordedIsRead(t *testing.T) {
	w, path := create(t, Options{Memory: 64 << 20})
	long := pattern(100_001, 7)
	for _, i := range kinds() {
		s := w.Begin(i)
		s.Received(time.Time{}, []byte("hello"))
		s.Sent(time.Time{}, [][]byte{[]byte("wor"), nil, []byte("ld, not this")}, 5)
		s.Received(time.Time{}, long)
		s.Sent(time.Time{}, [][]byte{long[:1], long[1:70_000], long[70_000:]}, len(long)-1)
		s.PeerFinished()
		s.Sent(time.Time{}, [][]byte{{1}}, 1)
		s.Finished()
		s.Closed(false, errors.New("the peer has gone"))
		s.Received(time.Time{}, []byte("late"))
	}
	must(t, w.Close())
	r := open(t, path)
	if len(r.Sessions) != len(kinds()) || r.Truncated || r.Dropped != 0 {
		t.Fatalf("%d sessions, truncated %v, dropped %d", len(r.Sessions), r.Truncated, r.Dropped)
	}
	byID := make(map[uint64]*Session)
	for _, s := range r.Sessions {
		byID[s.ID] = s
	}
	for name, i := range kinds() {
		s := byID[i.ID]
		if s == nil || s.Dialed != i.Dialed || s.Partial || !s.Ended || s.Reason != "the peer has gone" {
			t.Fatalf("%s: %+v", name, s)
		}
		// The peer is the client of a session that was accepted, the server of one that was dialed.
		peer, we := "client", "server"
		if i.Dialed {
			peer, we = we, peer
		}
		seven := func(side string, last int) string {
			return strings.Repeat(side+" data 16384; ", 6) + fmt.Sprintf("%s data %d; ", side, last)
		}
		want := peer + " data 5; " + we + " data 5; " + seven(peer, 100_001-6*16384) + seven(we, 100_000-6*16384) + peer + " finished 0; " + we + " data 1; " + we + " finished 0"
		if got := s.sequence(t); got != want {
			t.Errorf("%s:\n got %s\nwant %s", name, got, want)
		}
		if got := s.stream(t, !i.Dialed); !bytes.Equal(got, append([]byte("hello"), long...)) {
			t.Errorf("%s: the peer's bytes differ", name)
		}
		if got := s.stream(t, i.Dialed); !bytes.Equal(got, append(append([]byte("world"), long[:len(long)-1]...), 1)) {
			t.Errorf("%s: our bytes differ", name)
		}
		if (s.Client.Addr().Is4() && name == "IPv6") || name == "IPv4" && s.Client != netip.MustParseAddrPort("198.51.100.2:1025") {
			t.Errorf("%s: the client is %v", name, s.Client)
		}
	}
	checkPackets(t, path)
}

// checkPackets checks each packet of a file in a way of its own: lengths, checksums by the letter of RFC 1071, sequence numbers,
// acknowledgements of what was sent and no more, and times that do not go back.
func checkPackets(t *testing.T, path string) (packets int) {
	t.Helper()
	b, err := os.ReadFile(path)
	must(t, err)
	f := newFile(bytes.NewReader(b), int64(len(b)))
	sent := make(map[[2]netip.AddrPort]uint32)
	last := time.Time{}
	for p := new(captured); ; packets++ {
		more, err := f.next(p)
		must(t, err)
		if !more {
			return packets
		}
		if p.at.Before(last) {
			t.Fatalf("packet %d: %v is before %v", packets, p.at, last)
		}
		last = p.at
		way, back := [2]netip.AddrPort{p.src, p.dst}, [2]netip.AddrPort{p.dst, p.src}
		next, known := sent[way]
		switch {
		case p.flags&tcpSYN != 0:
			next = p.seq
		case !known || p.seq != next:
			t.Fatalf("packet %d: sequence number %d, want %d (%v)", packets, p.seq, next, known)
		}
		if p.flags&tcpACK != 0 && p.ack != sent[back] {
			t.Fatalf("packet %d: acknowledges %d, the other side has sent up to %d", packets, p.ack, sent[back])
		}
		next += uint32(len(p.payload))
		if p.flags&(tcpSYN|tcpFIN) != 0 {
			next++
		}
		sent[way] = next
		if !p.knownFlags {
			t.Fatalf("packet %d has no direction", packets)
		}
		if ip := rawPacket(b[:f.offset]); !validChecksums(ip) {
			t.Fatalf("packet %d has a wrong checksum: % x", packets, ip[:40])
		}
	}
}

// rawPacket returns the IP packet of the block that b ends with.
func rawPacket(b []byte) []byte {
	block := b[len(b)-int(le.Uint32(b[len(b)-4:])):]
	return block[28 : 28+le.Uint32(block[20:])]
}

// validChecksums adds 16-bit words one by one: with a right checksum they come to 0xffff.
func validChecksums(ip []byte) bool {
	add := func(s uint32, b []byte) uint32 {
		for i, v := range b {
			if i%2 == 0 {
				s += uint32(v) << 8
			} else {
				s += uint32(v)
			}
			s = s>>16 + s&0xffff
		}
		return s
	}
	if ip[0]>>4 == 6 {
		pseudo := binary.BigEndian.AppendUint32(bytes.Clone(ip[8:40]), uint32(len(ip)-40))
		return add(add(6, pseudo), ip[40:]) == 0xffff
	}
	pseudo := append(bytes.Clone(ip[12:20]), 0, 6, byte((len(ip)-20)>>8), byte(len(ip)-20))
	return add(0, ip[:20]) == 0xffff && add(add(0, pseudo), ip[20:]) == 0xffff
}

// Each way in which a session ends has its packets.
func TestEnds(t *testing.T) {
	for name, tt := range map[string]struct {
		end  func(*Stream)
		want string
	}{
		"abort": {func(s *Stream) { s.Closed(true, errors.New("x")) }, "server reset 0"},
		"the peer's reset": {func(s *Stream) {
			s.Broken(syscall.ECONNRESET)
			s.Received(time.Time{}, []byte("abc"))
			s.Closed(false, nil)
		}, "client data 3; client reset 0"},
		"a broken network":   {func(s *Stream) { s.Broken(syscall.ETIMEDOUT); s.Closed(false, nil) }, "client reset 0"},
		"a FIN and a reset":  {func(s *Stream) { s.PeerFinishedLater(); s.Broken(syscall.ECONNRESET); s.Closed(false, nil) }, "client finished 0; client reset 0"},
		"the peer first":     {func(s *Stream) { s.PeerFinished(); s.PeerFinished(); s.Closed(false, nil) }, "client finished 0; server finished 0"},
		"we first":           {func(s *Stream) { s.Finished(); s.PeerFinished(); s.Closed(false, nil) }, "server finished 0; client finished 0"},
		"we alone":           {func(s *Stream) { s.Finished(); s.Closed(false, nil) }, "server finished 0"},
		"twice":              {func(s *Stream) { s.Closed(false, nil); s.Closed(true, nil); s.Finished(); s.PeerFinished() }, "server finished 0"},
		"a FIN that waits":   {func(s *Stream) { s.PeerFinishedLater(); s.Received(time.Time{}, []byte("ab")); s.Closed(false, nil) }, "client data 2; client finished 0; server finished 0"},
		"nothing after FIN":  {func(s *Stream) { s.PeerFinished(); s.Received(time.Time{}, []byte("ab")); s.Closed(false, nil) }, "client finished 0; server finished 0"},
		"reset after we end": {func(s *Stream) { s.Finished(); s.Closed(true, nil) }, "server finished 0; server reset 0"},
	} {
		w, path := create(t, Options{})
		tt.end(w.Begin(info(1)))
		must(t, w.Close())
		r := open(t, path)
		if got := r.Sessions[0].sequence(t); got != tt.want || !r.Sessions[0].Ended {
			t.Errorf("%s: %s (ended %v), want %s", name, got, r.Sessions[0].Ended, tt.want)
		}
		checkPackets(t, path)
	}
}

// One side that sends for long is acknowledged, and sequence numbers pass 4 GiB.
func TestLongStream(t *testing.T) {
	w, path := create(t, Options{Memory: 64 << 20})
	s := w.Begin(info(1))
	s.next[out] = 1<<32 - 5_000_000
	s.put(out, tcpACK|tcpSYN, time.Time{}, "") // where it is
	s.next[out]++
	chunk := pattern(1<<20, 0)
	for range 10 {
		s.Sent(time.Time{}, [][]byte{chunk}, len(chunk))
	}
	s.Closed(false, nil)
	must(t, w.Close())
	checkPackets(t, path)
	r := open(t, path)
	if got := r.Sessions[0].stream(t, false); len(got) != 10<<20 || !bytes.Equal(got[9<<20:], chunk) {
		t.Errorf("%d bytes", len(got))
	}
	if c, s := r.Sessions[0].Missing(); c+s != 0 {
		t.Errorf("%d and %d bytes are missing", c, s)
	}
}

// A file that was cut anywhere is read as far as it goes.
func TestTruncated(t *testing.T) {
	w, path := create(t, Options{})
	s := w.Begin(info(9))
	for i := range 20 {
		s.Received(time.Time{}, pattern(i, i))
		s.Sent(time.Time{}, [][]byte{pattern(2*i, i)}, 2*i)
	}
	s.Closed(false, errors.New("done"))
	must(t, w.Close())
	b, err := os.ReadFile(path)
	must(t, err)
	whole, err := readAll(b)
	must(t, err)
	events := 0
	for n := 12; n <= len(b); n++ {
		r, err := readAll(b[:n])
		if err != nil {
			t.Fatalf("%d of %d bytes: %v", n, len(b), err)
		}
		if len(r.Sessions) == 0 {
			continue
		}
		got, want := r.Sessions[0].events(t), whole.Sessions[0].events(t)
		if len(got) < events {
			t.Fatalf("%d of %d bytes: %d events, with less there were %d", n, len(b), len(got), events)
		}
		events = len(got)
		for i, e := range got {
			if !bytes.Equal(e.Data, want[i].Data) || e.Lost != 0 {
				t.Fatalf("%d of %d bytes: event %d differs", n, len(b), i)
			}
		}
	}
	if events != len(whole.Sessions[0].events(t)) || events != 39 {
		t.Errorf("%d events, want 39", events)
	}
}

// disk is an output that can be slow, or full.
type disk struct {
	mu    sync.Mutex
	b     []byte
	room  int           // bytes it takes
	gate  chan struct{} // a Write waits for one of these, nil for none
	began chan struct{} // gets one when a Write begins
}

func (d *disk) Write(p []byte) (int, error) {
	if d.gate != nil {
		d.began <- struct{}{}
		<-d.gate
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	n := min(len(p), d.room-len(d.b))
	d.b = append(d.b, p[:n]...)
	if n < len(p) {
		return n, syscall.ENOSPC
	}
	return n, nil
}

func (d *disk) Truncate(size int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.b = d.b[:size]
	return nil
}

func (d *disk) Close() error { return nil }

// lines is a log.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// A full disk ends recording with one line in the log. What was written is readable to its last record, and sessions go on.
func TestFullDisk(t *testing.T) {
	for room := 500; room < 200_000; room += 7_777 {
		log := new(lines)
		d := &disk{room: room}
		w, err := startFile("disk", d, Options{Logger: slog.New(slog.NewTextHandler(log, nil))})
		must(t, err)
		s := w.Begin(info(1))
		for range 40 {
			s.Received(time.Time{}, pattern(10_000, 0))
		}
		err = w.Close()
		s.Received(time.Time{}, []byte("more"))
		if !errors.Is(err, syscall.ENOSPC) || !errors.Is(w.Stats().Err, syscall.ENOSPC) {
			t.Fatalf("room for %d bytes: Close returns %v, Err is %v", room, err, w.Stats().Err)
		}
		if n := strings.Count(log.String(), "recording has ended"); n != 1 {
			t.Fatalf("room for %d bytes: %d lines:\n%s", room, n, log)
		}
		r, err := readAll(d.b)
		must(t, err)
		if r.Truncated || w.Stats().Bytes != uint64(len(d.b)) {
			t.Errorf("room for %d bytes: %d of %d, truncated %v", room, w.Stats().Bytes, len(d.b), r.Truncated)
		}
		if room > 12_000 && (len(r.Sessions) != 1 || len(r.Sessions[0].events(t)) < (room-12_000)/10_100) {
			t.Errorf("room for %d bytes: %d sessions", room, len(r.Sessions))
		}
	}
}

// A disk that is slower than the sessions costs records, which are counted, and no more memory than Options.Memory. The gap shows.
func TestSlowDisk(t *testing.T) {
	d := &disk{room: 1 << 30}
	w, err := startFile("disk", d, Options{Memory: 1 << 20, Logger: quiet})
	must(t, err)
	d.gate, d.began = make(chan struct{}), make(chan struct{}, 10_000)
	s := w.Begin(info(3))
	<-d.began // the goroutine writes what there is, and waits
	const pieces, size = 1000, 10_000
	for i := range pieces {
		s.Received(time.Time{}, pattern(size, i))
	}
	stats := w.Stats()
	if stats.Dropped < pieces*9/10-10 || w.memory.held > 8 {
		t.Errorf("%d records were left out, %d chunks are held", stats.Dropped, w.memory.held)
	}
	close(d.gate)
	s.Received(time.Time{}, []byte("before")) // may find the memory full
	for w.held() > 0 {                        // the goroutine is at it
		runtime.Gosched()
	}
	s.Received(time.Time{}, []byte("behind"))
	s.Closed(false, nil)
	must(t, w.Close())
	r, err := readAll(d.b)
	must(t, err)
	if r.Dropped != w.Stats().Dropped || r.Dropped == 0 {
		t.Errorf("the file tells of %d records, the writer of %d", r.Dropped, w.Stats().Dropped)
	}
	if len(r.Sessions) != 1 {
		t.Fatalf("%d sessions", len(r.Sessions))
	}
	lost, _ := r.Sessions[0].Missing()
	got := r.Sessions[0].stream(t, true)
	if lost+len(got) != pieces*size+12 || lost == 0 || !bytes.HasSuffix(got, []byte("behind")) {
		t.Errorf("%d bytes and %d lost, want %d together", len(got), lost, pieces*size+12)
	}
	if !bytes.Contains(d.b, []byte("session 3, accepted, ")) || !bytes.Contains(d.b, []byte("records before this one were left out")) {
		t.Error("no comment tells of the gap")
	}
}

// held returns how many chunks wait or are being written.
func (w *Writer) held() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.memory.held
}

// The ring has the last bytes. Sessions whose beginning is gone are told by number, with what is left of them.
func TestRing(t *testing.T) {
	w, path := create(t, Options{Ring: 1 << 20})
	streams := make([]*Stream, 5)
	for i := range streams {
		streams[i] = w.Begin(info(uint64(i + 1)))
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("the file exists before Dump: %v", err)
	}
	const size, rounds = 3000, 400
	for i := range rounds {
		for _, s := range streams {
			s.Received(time.Time{}, pattern(size, i*size))
		}
	}
	must(t, w.Dump(""))
	info, err := os.Stat(path)
	must(t, err)
	if info.Size() > 1<<20+1000 || info.Size() < 1<<20-2*chunkSize || info.Mode() != 0o600 {
		t.Errorf("the file has %d bytes, mode %v", info.Size(), info.Mode())
	}
	r := open(t, path)
	if len(r.Sessions) != len(streams) {
		t.Fatalf("%d sessions", len(r.Sessions))
	}
	all := pattern(size*rounds, 0)
	for _, s := range r.Sessions {
		if !s.Partial || s.ID == 0 || s.Dialed || s.Ended {
			t.Errorf("%+v", *s)
		}
		if got := s.stream(t, true); len(got) == 0 || !bytes.HasSuffix(all, got) {
			t.Errorf("session %d: the last %d bytes differ", s.ID, len(got))
		}
	}
	streams[0].Closed(false, errors.New("over"))
	other := filepath.Join(t.TempDir(), "b")
	must(t, w.Dump(other))
	if s := open(t, other).Sessions; !s[0].Ended && !s[1].Ended && !s[2].Ended && !s[3].Ended && !s[4].Ended {
		t.Error("the second Dump has no end")
	}
	must(t, w.Close())
	if err := w.Dump(""); !errors.Is(err, ErrClosed) {
		t.Errorf("Dump after Close: %v", err)
	}
}

// Dumps do not disturb what records meanwhile, and each is whole.
func TestDumpWhileRecording(t *testing.T) {
	w, path := create(t, Options{Ring: 512 << 10})
	stop := make(chan struct{})
	var group sync.WaitGroup
	for g := range 3 {
		group.Go(func() {
			s := w.Begin(info(uint64(g + 1)))
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				s.Received(time.Time{}, pattern(1000, i*1000))
			}
		})
	}
	for i := range 20 {
		file := fmt.Sprint(path, i)
		must(t, w.Dump(file))
		for _, s := range open(t, file).Sessions {
			got := s.stream(t, true)
			if c, _ := s.Missing(); c != 0 || len(got) > 251 && !bytes.Equal(got[:len(got)-251], got[251:]) {
				t.Fatalf("session %d has a gap: %d", s.ID, c)
			}
		}
	}
	close(stop)
	group.Wait()
	must(t, w.Close())
	if w.held() != 0 {
		t.Errorf("%d chunks are held", w.held())
	}
}

// A chunk that a Dump reads stays as it is when the ring needs its room.
func TestChunksOfADumpStay(t *testing.T) {
	w, _ := create(t, Options{Ring: 1})
	s := w.Begin(info(1))
	fill := func() {
		for range 4 * chunkSize / 1000 {
			s.Received(time.Time{}, pattern(1000, 0))
		}
	}
	fill()
	w.mu.Lock()
	whole, _ := w.memory.pin()
	w.mu.Unlock()
	var before [][]byte
	for _, k := range whole {
		before = append(before, bytes.Clone(k.b))
	}
	fill() // packets have numbers and times, so no two are alike
	for i, k := range whole {
		if !bytes.Equal(k.b, before[i]) {
			t.Errorf("chunk %d has changed", i)
		}
	}
	if len(whole) != 1 || w.held() != 2 {
		t.Errorf("%d chunks are read, %d are held", len(whole), w.held())
	}
	w.mu.Lock()
	w.memory.unpin(whole)
	w.mu.Unlock()
}

// Prefixes and Filter choose.
func TestFilter(t *testing.T) {
	var asked []uint64
	w, path := create(t, Options{
		Prefixes: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/28"), netip.MustParsePrefix("2001:db8::/32")},
		Filter:   func(i Info) bool { asked = append(asked, i.ID); return i.ID%2 == 0 },
	})
	for id := range uint64(40) {
		w.Begin(info(id)).close()
	}
	for _, i := range kinds() {
		if i.ID != 2 {
			i.Remote = &net.UnixAddr{Net: "unix"}
		}
		w.Begin(i).close()
	}
	must(t, w.Close())
	if w.Begin(info(2)) != nil {
		t.Error("a Writer that is closed begins")
	}
	r := open(t, path)
	if len(r.Sessions) != 9 || len(asked) != 16 || w.Stats().Sessions != 9 { // the even ones of 0 to 14, which are 198.51.100.1 to .15, and number 2 of IPv6
		t.Errorf("%d sessions, %d asked, %d counted", len(r.Sessions), len(asked), w.Stats().Sessions)
	}
}

func (s *Stream) close() {
	if s != nil {
		s.Closed(false, nil)
	}
}

// What is recorded costs no allocation.
func TestAllocations(t *testing.T) {
	if raceEnabled {
		t.Log("the race detector allocates; this is for the other run")
		return
	}
	d := &disk{room: 1 << 30, b: make([]byte, 0, 64<<20)}
	w, err := startFile("disk", d, Options{Logger: quiet})
	must(t, err)
	s := w.Begin(info(1))
	data := pattern(64, 0)
	bufs := [][]byte{data, data}
	if n := testing.AllocsPerRun(2000, func() {
		s.Received(time.Time{}, data)
		s.Sent(time.Time{}, bufs, 128)
	}); n > 0.5 { // chunks come and go
		t.Errorf("%v allocations", n)
	}
	must(t, w.Close())
}

func TestOptionsThatCannotBe(t *testing.T) {
	open := filepath.Join(t.TempDir(), "open to all")
	must(t, os.WriteFile(open, []byte("before"), 0o644))
	w, err := Create(open, Options{Logger: quiet})
	must(t, err)
	must(t, w.Close())
	if info, err := os.Stat(open); err != nil || info.Mode() != 0o600 {
		t.Errorf("a file that existed has the mode %v, %v", info.Mode(), err)
	}
	for name, f := range map[string]func() error{
		"Memory":    func() error { _, err := Create("x", Options{Memory: -1}); return err },
		"Ring":      func() error { _, err := Create("x", Options{Ring: -1}); return err },
		"path":      func() error { _, err := Create("", Options{}); return err },
		"no/folder": func() error { _, err := Create(filepath.Join(t.TempDir(), "no/folder/x"), Options{}); return err },
		"Dump":      func() error { w, _ := create(t, Options{}); return w.Dump("x") },
		"no path":   func() error { w, _ := Create("", Options{Ring: 1}); defer w.Close(); return w.Dump("") },
		"not there": func() error { _, err := Open(filepath.Join(t.TempDir(), "not there")); return err },
	} {
		if err := f(); err == nil || !strings.Contains(err.Error(), name) && name != "no path" || !strings.HasPrefix(err.Error(), "record: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What is no recording of ours is told so, whatever it is. What is read has as many events missing as Missing tells, the second time too.
func FuzzOpen(f *testing.F) {
	w, path := create(f, Options{})
	s := w.Begin(info(9))
	s.Received(time.Time{}, []byte("hello"))
	s.Closed(true, errors.New("why"))
	must(f, w.Close())
	b, err := os.ReadFile(path)
	must(f, err)
	f.Add(b)
	f.Add(append(bytes.Clone(b), b...)) // two sections
	f.Add([]byte{})
	f.Add([]byte("\x0a\x0d\x0d\x0a"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := readAll(b)
		if (r == nil) == (err == nil) {
			t.Errorf("%v, %v", r, err)
		}
		if err != nil {
			return
		}
		for _, s := range r.Sessions {
			var missing [2]int
			for e, err := range s.Events() {
				must(t, err)
				missing[side(e.Client)] += e.Lost
			}
			if client, server := s.Missing(); missing != [2]int{client, server} {
				t.Errorf("%v bytes are missing, Missing tells %d and %d", missing, client, server)
			}
		}
	})
}
