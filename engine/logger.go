package engine

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// line is a kind of log line that an outsider can provoke, and that is therefore written at most once a second;
// the next one tells how many were left out.
type line uint8

const (
	acceptLine line = iota
	fullLine
	factoryLine
	panicLine
	reconnectLine
	giveUpLine
	guardLine
	admitLine
	proxyLine
	spareLine
	blockingLine
	lines
)

const lineEvery = time.Second

// maxLogged bounds the records that wait for Options.Logger.
const maxLogged = 256

// flushTime bounds how long the end of an engine waits for Options.Logger.
const flushTime = 100 * time.Millisecond

// logger hands records to Options.Logger. Its handler is the application's code: it may block, panic, or call the engine. So it
// runs on a goroutine of its own, never on a loop, under a lock or before something that has to happen. That goroutine begins
// with the first record and ends when no record waits.
type logger struct {
	handler slog.Handler
	dropped atomic.Uint64 // records that found the queue full, or whose handler panicked

	mu    sync.Mutex // never held while the handler runs
	state [lines]struct {
		last time.Time
		left int
	}
	queue    []slog.Record
	writing  chan struct{} // closed when no record waits any more; nil if none does
	unspoken int           // records dropped since the last one that was written
}

func newLogger(out *slog.Logger) *logger { return &logger{handler: out.Handler()} }

// limited logs a warning unless one of its kind was logged within the last second.
func (l *logger) limited(kind line, message string, args ...any) {
	now := time.Now()
	l.mu.Lock()
	s := &l.state[kind]
	if !s.last.IsZero() && now.Sub(s.last) < lineEvery {
		s.left++
		l.mu.Unlock()
		return
	}
	left := s.left
	s.last, s.left = now, 0
	l.mu.Unlock()
	if left > 0 {
		args = append(args, "left_out", left)
	}
	level := slog.LevelWarn
	if kind == panicLine {
		level = slog.LevelError
	}
	l.put(now, level, message, args)
}

func (l *logger) warn(message string, args ...any) {
	l.put(time.Now(), slog.LevelWarn, message, args)
}

func (l *logger) error(message string, err error, args ...any) {
	l.put(time.Now(), slog.LevelError, message, append(args, "err", err))
}

// put queues a record. The caller is the function that has the line to say it, one above: limited, warn or error.
func (l *logger) put(at time.Time, level slog.Level, message string, args []any) {
	var pc [1]uintptr
	runtime.Callers(3, pc[:])
	r := slog.NewRecord(at, level, message, pc[0])
	for i := 1; i < len(args); i += 2 {
		args[i] = fixed(args[i])
	}
	r.Add(args...)
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.queue) == maxLogged {
		l.drop(1)
		return
	}
	l.queue = append(l.queue, r)
	if l.writing == nil {
		l.writing = make(chan struct{})
		go l.write()
	}
}

// drop counts records that are not written. The caller holds mu.
func (l *logger) drop(n int) {
	l.dropped.Add(uint64(n))
	l.unspoken += n
}

// write is the goroutine that runs the handler. The handler may take it down, by runtime.Goexit: then another carries on.
func (l *logger) write() {
	finished := false
	defer func() {
		if !finished {
			l.lost()
			go l.write()
		}
	}()
	for {
		r, ok := l.next()
		if !ok {
			break
		}
		if !l.handle(r) {
			l.lost()
		}
	}
	finished = true
}

// next takes the record to write. Without one, the goroutine that asks is no more.
func (l *logger) next() (r slog.Record, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.queue) == 0 {
		l.queue = nil
		close(l.writing)
		l.writing = nil
		return r, false
	}
	r, l.queue[0] = l.queue[0], r
	l.queue = l.queue[1:]
	if l.unspoken > 0 {
		r.AddAttrs(slog.Int("dropped", l.unspoken))
		l.unspoken = 0
	}
	return r, true
}

// handle gives the handler a record, and reports whether the handler returned. What an error's or a value's text does, it does here.
func (l *logger) handle(r slog.Record) (returned bool) {
	defer func() {
		if !returned {
			_ = recover()
		}
	}()
	if l.handler.Enabled(context.Background(), r.Level) {
		_ = l.handler.Handle(context.Background(), r)
	}
	return true
}

// lost counts the record that was being written.
func (l *logger) lost() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.drop(1)
}

// flush waits until no record waits, but not for a handler that blocks.
func (l *logger) flush() {
	l.mu.Lock()
	writing := l.writing
	l.mu.Unlock()
	if writing == nil {
		return
	}
	t := time.NewTimer(flushTime)
	defer t.Stop()
	select {
	case <-writing:
	case <-t.C:
	}
}

// fixed returns what of a value can be kept until it is written: the value if nothing can change it or if it makes its text itself,
// which may take time and is done by the handler; of anything else the text it has now.
func fixed(v any) any {
	switch v := v.(type) {
	case nil, string, bool, int, int64, uint64, float64, time.Duration, time.Time, netip.Addr, netip.AddrPort, *net.TCPAddr, *net.UnixAddr:
		return v
	case error, fmt.Stringer, slog.LogValuer:
		return v
	}
	return fmt.Sprint(v)
}
