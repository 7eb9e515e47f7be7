package asynclog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/servercore-go/servercore/internal/goroutines"
)

// logBook is a slog.Handler that keeps the records it is given, after what before does.
type logBook struct {
	level  slog.Level
	before func(slog.Record)

	mu      sync.Mutex
	records []map[string]slog.Value
	times   []time.Time
	callers map[string]bool // goroutines that have called it
}

func (b *logBook) WithAttrs([]slog.Attr) slog.Handler { return b }
func (b *logBook) WithGroup(string) slog.Handler      { return b }
func (b *logBook) Enabled(_ context.Context, level slog.Level) bool {
	b.called()
	return level >= b.level
}

func (b *logBook) called() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.callers == nil {
		b.callers = make(map[string]bool)
	}
	b.callers[goroutines.ID()] = true
}

func (b *logBook) Handle(_ context.Context, r slog.Record) error {
	b.called()
	if b.before != nil {
		b.before(r)
	}
	line := map[string]slog.Value{"msg": slog.StringValue(r.Message), "level": slog.AnyValue(r.Level)}
	r.Attrs(func(a slog.Attr) bool { line[a.Key] = slog.StringValue(a.Value.String()); return true })
	b.mu.Lock()
	defer b.mu.Unlock()
	b.records, b.times = append(b.records, line), append(b.times, r.Time)
	return nil
}

func (b *logBook) all() []map[string]slog.Value {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]map[string]slog.Value(nil), b.records...)
}

func (b *logBook) logger() *Logger { return New(b) }

// settled waits until no record waits.
func settled(t *testing.T, l *Logger) {
	t.Helper()
	if !l.Flush(5 * time.Second) {
		t.Fatal("records wait still after 5 s")
	}
}

const guardLine, panicLine Kind = 0, 1

const patience = 100 * time.Millisecond // of Flush

// K5: a handler that blocks holds up nobody who logs. As many records wait as may; the rest is counted, and told of.
func TestLogHandlerBlocks(t *testing.T) {
	entered, gate := make(chan struct{}, 1), make(chan struct{})
	b := &logBook{before: func(r slog.Record) {
		if r.Message == "first" {
			entered <- struct{}{}
			<-gate
		}
	}}
	l := b.logger()
	l.Warn("first")
	<-entered
	const more = 1000
	for i := range more {
		l.Warn("more", "i", i)
	}
	if n := l.Dropped(); n != more-maxQueued {
		t.Errorf("%d records were dropped, want %d", n, more-maxQueued)
	}
	began := time.Now()
	done := l.Flush(patience)
	if took := time.Since(began); done || took < patience || took > 20*patience {
		t.Errorf("Flush gave up after %v, want %v; done: %v", took, patience, done)
	}
	if b.callers[goroutines.ID()] {
		t.Error("the handler was called by the goroutine that logs")
	}
	close(gate)
	settled(t, l)
	all := b.all()
	if len(all) != 1+maxQueued {
		t.Fatalf("%d records were written, want %d", len(all), 1+maxQueued)
	}
	for i, line := range all[1:] {
		if line["i"].String() != fmt.Sprint(i) {
			t.Fatalf("record %d is %v", i, line)
		}
	}
	if got := all[1]["dropped"].String(); got != fmt.Sprint(more-maxQueued) {
		t.Errorf("the next record tells of %s dropped, want %d", got, more-maxQueued)
	}
	if _, told := all[2]["dropped"]; told {
		t.Error("the one after it tells of them again")
	}
	l.Warn("again")
	settled(t, l)
	if n := len(b.all()); n != 2+maxQueued || l.Dropped() != more-maxQueued {
		t.Errorf("%d records and %d dropped, once the handler goes on", n, l.Dropped())
	}
}

// A handler that fails loses its record, and no other.
func TestLogHandlerFails(t *testing.T) {
	for name, fail := range map[string]func(){"panic": func() { panic("on purpose") }, "Goexit": runtime.Goexit} {
		b := &logBook{before: func(r slog.Record) {
			if r.Message == "bad" {
				fail()
			}
		}}
		l := b.logger()
		for _, message := range []string{"one", "bad", "two"} {
			l.Warn(message)
		}
		settled(t, l)
		all := b.all()
		if len(all) != 2 || all[1]["msg"].String() != "two" || all[1]["dropped"].String() != "1" || l.Dropped() != 1 {
			t.Errorf("%s: %v, %d dropped", name, all, l.Dropped())
		}
	}
}

// What the handler does not want is not written, and not counted.
func TestLogLevel(t *testing.T) {
	b := &logBook{level: slog.LevelError}
	l := b.logger()
	l.Warn("no")
	l.Error("yes", errors.New("why"), "key", "value")
	settled(t, l)
	if all := b.all(); len(all) != 1 || all[0]["msg"].String() != "yes" || all[0]["err"].String() != "why" ||
		all[0]["key"].String() != "value" || all[0]["level"].Any() != slog.LevelError || l.Dropped() != 0 {
		t.Errorf("%v, %d dropped", all, l.Dropped())
	}
	b.level = slog.LevelWarn
	l.Warn("now")
	settled(t, l)
	if all := b.all(); len(all) != 2 || all[1]["level"].Any() != slog.LevelWarn {
		t.Errorf("%v", all)
	}
}

// A record has the time of its event and tells from where it comes, however late it is written.
func TestLogTimeAndSource(t *testing.T) {
	entered, gate := make(chan struct{}, 1), make(chan struct{})
	sources := make(chan string, 3)
	b := &logBook{before: func(r slog.Record) {
		f, _ := runtime.CallersFrames([]uintptr{r.PC}).Next()
		sources <- f.Function
		if r.Message == "first" {
			entered <- struct{}{}
			<-gate
		}
	}}
	l := b.logger()
	l.Warn("first")
	<-entered
	before := time.Now()
	l.Limited(guardLine, "second")
	after := time.Now()
	l.Error("third", nil)
	time.Sleep(20 * time.Millisecond)
	close(gate)
	settled(t, l)
	if at := b.times[1]; at.Before(before) || at.After(after) {
		t.Errorf("the time is %v, want one from %v to %v", at, before, after)
	}
	for range 3 {
		if source := <-sources; !strings.HasSuffix(source, "TestLogTimeAndSource") {
			t.Errorf("the source is %s", source)
		}
	}
}

// slowly makes its text on a goroutine that is told, as errors and values of the application may.
type slowly struct{ by chan<- string }

func (s slowly) String() string { s.by <- goroutines.ID(); return "text" }
func (s slowly) Error() string  { return s.String() }

type slowError struct{ slowly }

// A value that can change is written as it was; a text that may take time is made where nobody waits for it.
func TestLogValues(t *testing.T) {
	entered, gate := make(chan struct{}, 1), make(chan struct{})
	b := &logBook{before: func(r slog.Record) {
		if r.Message == "first" {
			entered <- struct{}{}
			<-gate
		}
	}}
	l := b.logger()
	l.Warn("first")
	<-entered
	numbers, pointed := []int{1}, &struct{ n int }{1}
	by := make(chan string, 2)
	l.Warn("second", "slice", numbers, "pointer", pointed, "stringer", slowly{by}, "err", slowError{slowly{by}}, "nothing", nil)
	numbers[0], pointed.n = 2, 2
	close(gate)
	settled(t, l)
	line := b.all()[1]
	for key, want := range map[string]string{"slice": "[1]", "pointer": "&{1}", "stringer": "text", "err": "text", "nothing": "<nil>"} {
		if got := line[key].String(); got != want {
			t.Errorf("%s is written as %s, want %s", key, got, want)
		}
	}
	for range 2 {
		if <-by == goroutines.ID() {
			t.Error("a text was made by the goroutine that logs")
		}
	}
}

// passed has the Interval since the last line of a kind pass.
func passed(l *Logger, kind Kind) {
	l.mu.Lock()
	defer l.mu.Unlock()
	at := l.limits[kind]
	at.last = time.Now().Add(-Interval - time.Millisecond)
	l.limits[kind] = at
}

// One line of a kind a second; the next tells how many were left out. Kinds do not count for each other.
func TestLogLimited(t *testing.T) {
	b := &logBook{}
	l := b.logger()
	for range 5 {
		l.Limited(guardLine, "guard")
	}
	l.LimitedError(panicLine, "panic")
	passed(l, guardLine)
	l.Limited(guardLine, "guard")
	l.Limited(guardLine, "guard")
	settled(t, l)
	all := b.all()
	if len(all) != 3 {
		t.Fatalf("%d lines, want 3: %v", len(all), all)
	}
	if _, told := all[0]["left_out"]; told || all[0]["level"].Any() != slog.LevelWarn {
		t.Errorf("the first line is %v", all[0])
	}
	if all[1]["msg"].String() != "panic" || all[1]["level"].Any() != slog.LevelError {
		t.Errorf("the second line is %v", all[1])
	}
	if got := all[2]["left_out"].String(); got != "4" {
		t.Errorf("the third line tells of %s left out, want 4", got)
	}
	passed(l, guardLine)
	l.Limited(guardLine, "guard")
	settled(t, l)
	if got := b.all()[3]["left_out"].String(); got != "1" {
		t.Errorf("the fourth line tells of %s left out, want 1", got)
	}
}

// Flush waits for a handler that takes its time.
func TestLogFlush(t *testing.T) {
	b := &logBook{before: func(slog.Record) { time.Sleep(patience / 50) }}
	l := b.logger()
	if !l.Flush(0) {
		t.Error("Flush waits for nothing")
	}
	for range 3 {
		l.Warn("line")
	}
	if !l.Flush(50 * patience) {
		t.Error("Flush gives up")
	}
	if n := len(b.all()); n != 3 {
		t.Errorf("%d lines are written, want 3", n)
	}
}
