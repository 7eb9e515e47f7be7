package record

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// Options say what a Writer records, and with how much memory. The zero value of each field means its default.
type Options struct {
	// Memory bounds the bytes that wait to be written. Records that find it full are left out and counted (Stats.Dropped). It is rounded up to
	// a multiple of 128 KiB, and 256 KiB at least. Default: 8 MiB.
	Memory int

	// Ring keeps the last that many bytes in memory instead, and writes them when Dump is called. It is rounded up like Memory. A Dump takes
	// up to as much again while it writes. Default: 0, everything goes to the file at once.
	Ring int

	// Prefixes, if there are any, are the addresses to record: sessions whose remote address is in none of them are left out, and so
	// are those of unix sockets. IPv4 addresses are compared as IPv4.
	Prefixes []netip.Prefix

	// Filter, if it is not nil, is asked for each session that Prefixes has passed. false leaves the session out. It is called on the session's
	// loop, before OnConnected, on several loops at once, and must not wait.
	Filter func(Info) bool

	// Logger gets a line when recording ends because the file cannot be written, and one each ten seconds at most while records are left
	// out. It is called on a goroutine of the Writer's own. Default: slog.Default() at Create.
	Logger *slog.Logger
}

// Stats are the counts of a Writer since Create.
type Stats struct {
	Sessions uint64 // that are, or were, recorded
	Records  uint64 // packets taken into memory, those that were made up among them
	Dropped  uint64 // packets left out, because the memory was full or the file could not be written
	Bytes    uint64 // written to the file by now
	Err      error  // why recording has ended by itself, nil if it has not
}

// ErrClosed is what Dump returns after Close.
var ErrClosed = errors.New("record: the writer is closed")

// Writer records sessions to a file. Any goroutine may call its methods.
type Writer struct {
	options Options
	path    string
	began   time.Time
	stopped atomic.Bool // nothing is recorded any more: set once, under mu

	mu      sync.Mutex // of the loops and the goroutine; not held while anything is written
	memory  chunks
	stats   Stats
	idle    bool // the goroutine waits for wake
	closing bool

	wake chan struct{} // has room for one
	done chan struct{} // closed when the goroutine has ended

	// The goroutine's own.
	file     output // nil with Ring
	offset   int64  // of the end of the last whole block
	batch    []*chunk
	reported uint64 // records left out that the log knows of
	lastLine time.Time
	closeErr error
}

// output is what a Writer needs of its file.
type output interface {
	Write(p []byte) (int, error)
	Truncate(size int64) error
	Close() error
}

const (
	// gather is how long records gather before the goroutine that was idle writes them: a wake-up for each would cost the loops more than all else.
	gather = 2 * time.Millisecond

	defaultMemory = 8 << 20
	lineEvery     = 10 * time.Second
)

// Create begins to record to a file, which is made, or emptied if it exists. Its mode is 0600: it has what users sent in private. With
// Options.Ring the file is not touched before Dump, and path may be "". Close has to be called.
func Create(path string, o Options) (*Writer, error) {
	if o.Memory < 0 || o.Ring < 0 {
		return nil, fmt.Errorf("record: Options.Memory is %d and Options.Ring %d, want 0 for the default or a number of bytes", o.Memory, o.Ring)
	}
	if o.Ring > 0 {
		return start(path, nil, o), nil
	}
	if path == "" {
		return nil, errors.New("record: the path is empty; only with Options.Ring nothing is written before Dump")
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("record: %w", err)
	}
	if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
		_ = f.Chmod(0o600) // of a file that existed
	}
	return startFile(path, f, o)
}

// startFile begins with a file that is empty.
func startFile(path string, f output, o Options) (*Writer, error) {
	header := appendHeader(nil)
	if _, err := f.Write(header); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("record: %w", err)
	}
	w := start(path, f, o)
	return w, nil
}

// start makes a Writer. f is nil with Options.Ring.
func start(path string, f output, o Options) *Writer {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	size := o.Ring
	if f != nil {
		if size = o.Memory; size == 0 {
			size = defaultMemory
		}
	}
	w := &Writer{
		options: o, path: path, file: f, began: time.Now(),
		memory: chunks{ring: f == nil, most: max((size+chunkSize-1)/chunkSize, 2)},
		wake:   make(chan struct{}, 1),
		done:   make(chan struct{}),
	}
	if f == nil {
		close(w.done)
		return w
	}
	w.offset = int64(len(appendHeader(nil)))
	w.stats.Bytes = uint64(w.offset)
	go w.run()
	return w
}

// Stats returns the counts.
func (w *Writer) Stats() Stats {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.stats
}

// Close ends recording. It writes what waits, closes the file and returns the first error that there was with it. It waits for the disk.
// Sessions that go on are not recorded any more. A second Close does nothing.
func (w *Writer) Close() error {
	w.mu.Lock()
	w.closing = true
	w.stopped.Store(true)
	if w.memory.ring {
		w.memory.drop()
	}
	w.signal()
	w.mu.Unlock()
	<-w.done
	return w.closeErr
}

// signal wakes the goroutine if it waits. The caller holds mu.
func (w *Writer) signal() {
	if w.idle {
		w.idle = false
		w.wake <- struct{}{}
	}
}

// Info describes a session to be recorded.
type Info struct {
	ID            uint64    // session.Session.ID
	Dialed        bool      // the session is the client
	Local, Remote net.Addr  // of the connection
	Since         time.Time // when the connection began; zero stands for now
}

// admits reports whether a session is to be recorded.
func (w *Writer) admits(i Info) bool {
	if w.stopped.Load() {
		return false
	}
	if len(w.options.Prefixes) > 0 {
		a, ok := addrPort(i.Remote)
		if !ok {
			return false
		}
		inside := false
		for _, p := range w.options.Prefixes {
			inside = inside || p.Contains(a.Addr())
		}
		if !inside {
			return false
		}
	}
	return w.options.Filter == nil || w.options.Filter(i)
}

// put takes a packet into memory, or counts it as left out. at is when, zero for now.
func (w *Writer) put(s *Stream, p *packet, at time.Time) {
	if w.stopped.Load() {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stopped.Load() {
		return
	}
	size := p.size()
	if p.comment == "" && (w.memory.ring || s.lost > 0) {
		size += 4 + mostTold
	}
	c := w.memory.room(size)
	if c == nil {
		s.lost++
		w.stats.Dropped++
		return
	}
	if p.comment == "" && (s.lost > 0 || w.memory.ring && s.toldIn != c.serial) {
		p.comment = s.tell()
	}
	s.toldIn, s.lost = c.serial, 0
	p.at = w.now(at)
	c.b = p.append(c.b)
	w.stats.Records++
	w.signal()
}

// now returns a time in nanoseconds since 1970. The clock of the machine may be set meanwhile: what counts is the time that has passed since
// Create.
func (w *Writer) now(at time.Time) int64 {
	if at.IsZero() {
		return w.began.UnixNano() + int64(time.Since(w.began))
	}
	return w.began.UnixNano() + int64(at.Sub(w.began))
}

// run is the goroutine that writes.
func (w *Writer) run() {
	defer close(w.done)
	for w.next() {
		for i, c := range w.batch {
			w.write(c)
			w.batch[i] = nil
		}
		w.reportDropped()
	}
	w.finish()
}

// next waits for something to write. It returns false at the end.
func (w *Writer) next() bool {
	for {
		w.mu.Lock()
		w.batch = w.memory.take(w.batch[:0])
		if len(w.batch) > 0 || w.closing {
			w.mu.Unlock()
			return len(w.batch) > 0
		}
		w.idle = true
		w.mu.Unlock()
		<-w.wake
		time.Sleep(gather)
	}
}

// write writes a chunk, unless writing has failed before, and gives it back.
func (w *Writer) write(c *chunk) {
	var n int
	var err error
	w.mu.Lock()
	failed := w.stats.Err != nil
	w.mu.Unlock()
	if !failed {
		n, err = w.file.Write(c.b)
		n = c.whole(n)
		w.offset += int64(n)
	}
	dropped := uint64(0)
	if n < len(c.b) {
		dropped = c.blocksFrom(n)
	}
	if err != nil {
		err = fmt.Errorf("record: %w", err)
		_ = w.file.Truncate(w.offset) // half a block would be the end of it for some programs
	}
	w.mu.Lock()
	w.memory.held--
	w.stats.Bytes += uint64(n)
	w.stats.Dropped += dropped
	w.stats.Records -= dropped
	if err != nil {
		w.stats.Err = err
		w.stopped.Store(true)
	}
	w.mu.Unlock()
	c.release()
	if err != nil {
		w.options.Logger.Error("recording has ended: the file cannot be written; the server goes on", "err", err, "file", w.path)
	}
}

// blocksFrom returns how many blocks begin at n or behind.
func (k *chunk) blocksFrom(n int) (count uint64) {
	for n < len(k.b) {
		n += int(le.Uint32(k.b[n+4:]))
		count++
	}
	return count
}

// reportDropped logs that records were left out, now and then.
func (w *Writer) reportDropped() {
	s := w.Stats()
	if s.Err != nil || s.Dropped == w.reported || time.Since(w.lastLine) < lineEvery {
		return
	}
	w.options.Logger.Warn("records were left out: the disk is slower than the sessions", "records", s.Dropped-w.reported, "file", w.path)
	w.reported, w.lastLine = s.Dropped, time.Now()
}

// finish ends the file.
func (w *Writer) finish() {
	s := w.Stats()
	w.closeErr = s.Err
	if s.Err == nil {
		end := appendStatistics(nil, w.now(time.Time{}), s.Records, s.Dropped)
		if _, err := w.file.Write(end); err != nil {
			w.closeErr = fmt.Errorf("record: %w", err)
			_ = w.file.Truncate(w.offset)
		}
	}
	if err := w.file.Close(); err != nil && w.closeErr == nil {
		w.closeErr = fmt.Errorf("record: %w", err)
	}
}
