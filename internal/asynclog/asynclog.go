// Package asynclog hands log records to a slog.Handler that may block, panic or call the code that logs. It never holds up the caller:
// records wait in a bounded queue for one goroutine, and those that find the queue full are counted. It also limits lines that a peer
// can provoke to one a second for each kind.
//
// The way of a record: Warn, Error, Limited or LimitedError -> put (queue) -> write (goroutine) -> the handler.
package asynclog

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

// Kind is a kind of line that a peer can provoke. The caller numbers its kinds.
type Kind uint8

// Interval is the least time between two lines of one kind.
const Interval = time.Second

// maxQueued bounds the records that wait for the handler.
const maxQueued = 256

// Logger hands records to a handler. The handler is the application's code, so it runs on a goroutine of its own, never on the
// goroutine that logs. That goroutine begins with the first record and ends when no record waits. Any goroutine may call the methods,
// under any lock: they wait for nothing.
type Logger struct {
	handler slog.Handler
	dropped atomic.Uint64

	mu         sync.Mutex // never held while the handler runs
	limits     map[Kind]limit
	queue      []slog.Record
	writing    chan struct{} // closed when no record waits any more; nil if none does
	unreported int           // records dropped since the last one that was written
}

// limit is what a Logger remembers of one kind of line.
type limit struct {
	last    time.Time // when a line was logged last
	leftOut int       // since then
}

// New returns a Logger that hands its records to h.
func New(h slog.Handler) *Logger { return &Logger{handler: h, limits: make(map[Kind]limit)} }

// Warn logs a warning. The args are keys and values in turn.
func (l *Logger) Warn(message string, args ...any) {
	l.put(time.Now(), slog.LevelWarn, message, args)
}

// Error logs an error, whose key is "err". The args are keys and values in turn.
func (l *Logger) Error(message string, err error, args ...any) {
	l.put(time.Now(), slog.LevelError, message, append(args, "err", err))
}

// Limited is Warn, unless a line of that kind was logged within the last Interval. The next line of the kind tells how many were left
// out, with the key "left_out".
func (l *Logger) Limited(kind Kind, message string, args ...any) {
	now := time.Now()
	if args, ok := l.allow(kind, now, args); ok {
		l.put(now, slog.LevelWarn, message, args)
	}
}

// LimitedError is Limited for an error.
func (l *Logger) LimitedError(kind Kind, message string, args ...any) {
	now := time.Now()
	if args, ok := l.allow(kind, now, args); ok {
		l.put(now, slog.LevelError, message, args)
	}
}

// allow reports whether a line of that kind may be logged now, and returns its args.
func (l *Logger) allow(kind Kind, now time.Time, args []any) ([]any, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	at := l.limits[kind]
	if !at.last.IsZero() && now.Sub(at.last) < Interval {
		at.leftOut++
		l.limits[kind] = at
		return nil, false
	}
	l.limits[kind] = limit{last: now}
	if at.leftOut > 0 {
		args = append(args, "left_out", at.leftOut)
	}
	return args, true
}

// Dropped returns how many records found the queue full, or were lost because the handler panicked or called runtime.Goexit.
func (l *Logger) Dropped() uint64 { return l.dropped.Load() }

// Flush waits until no record waits, for the given time at most, and reports whether none does.
func (l *Logger) Flush(patience time.Duration) bool {
	l.mu.Lock()
	writing := l.writing
	l.mu.Unlock()
	if writing == nil {
		return true
	}
	t := time.NewTimer(patience)
	defer t.Stop()
	select {
	case <-writing:
		return true
	case <-t.C:
		return false
	}
}

// put queues a record. Its source is the caller of the exported method that calls put.
func (l *Logger) put(at time.Time, level slog.Level, message string, args []any) {
	var pc [1]uintptr
	runtime.Callers(3, pc[:])
	r := slog.NewRecord(at, level, message, pc[0])
	for i := 1; i < len(args); i += 2 {
		args[i] = snapshot(args[i])
	}
	r.Add(args...)
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.queue) == maxQueued {
		l.dropLocked()
		return
	}
	l.queue = append(l.queue, r)
	if l.writing == nil {
		l.writing = make(chan struct{})
		go l.write()
	}
}

// snapshot returns what of a value can be kept until it is written: the value itself if nothing can change it, or if it makes its own
// text (that may take time, and the handler's goroutine does it). Of any other value it returns the text that it has now.
func snapshot(v any) any {
	switch v := v.(type) {
	case nil, string, bool, int, int64, uint64, float64, time.Duration, time.Time, netip.Addr, netip.AddrPort, *net.TCPAddr, *net.UnixAddr:
		return v
	case error, fmt.Stringer, slog.LogValuer:
		return v
	}
	return fmt.Sprint(v)
}

// write is the goroutine that runs the handler. If the handler takes it down, by runtime.Goexit, another one carries on.
func (l *Logger) write() {
	finished := false
	defer func() {
		if !finished {
			l.drop()
			go l.write()
		}
	}()
	for {
		r, ok := l.next()
		if !ok {
			break
		}
		if !l.handle(r) {
			l.drop()
		}
	}
	finished = true
}

// next returns the record to write. If there is none, the goroutine that calls next must end.
func (l *Logger) next() (r slog.Record, ok bool) {
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
	if l.unreported > 0 {
		r.AddAttrs(slog.Int("dropped", l.unreported))
		l.unreported = 0
	}
	return r, true
}

// handle gives the handler a record, and reports whether the handler returned.
func (l *Logger) handle(r slog.Record) (returned bool) {
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

// drop counts a record that is not written.
func (l *Logger) drop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dropLocked()
}

func (l *Logger) dropLocked() {
	l.dropped.Add(1)
	l.unreported++
}
