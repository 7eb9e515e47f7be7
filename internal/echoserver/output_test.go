package echoserver

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// gate is a stream whose reader reads only as much as the test allows.
type gate struct {
	open   chan struct{} // closed: everything passes
	writes chan int      // sizes of the writes that began, while there is room
	text   *transcript
}

func newGate() *gate {
	return &gate{open: make(chan struct{}), writes: make(chan int, 1000), text: newTranscript()}
}

func (g *gate) Write(p []byte) (int, error) {
	select {
	case g.writes <- len(p):
	default:
	}
	<-g.open
	return g.text.Write(p)
}

func told(lost int) []byte { return fmt.Appendf(nil, "%d lost\n", lost) }

// wantClosed waits until the writer has written everything.
func wantClosed(t *testing.T, a *asyncWriter) {
	t.Helper()
	a.close()
	select {
	case <-a.done:
	case <-time.After(patience):
		t.Fatal("the writer has not ended after close")
	}
}

// A reader that does not read blocks no writer. The queue is bounded, and lost lines are counted and reported.
func TestWriterIsNotHeldUp(t *testing.T) {
	g := newGate()
	a := newAsyncWriter(g, told)
	line := []byte(strings.Repeat("x", 1023) + "\n")
	a.Write(line)
	<-g.writes // it hangs now
	const kept, lost = maxQueued / 1024, 1000
	var writers sync.WaitGroup
	for range 8 {
		writers.Go(func() {
			for range (kept + lost) / 8 {
				if n, err := a.Write(line); n != len(line) || err != nil {
					t.Errorf("%d, %v", n, err)
				}
			}
		})
	}
	writers.Wait()
	close(g.open)
	g.text.wait(t, "lost\n", 1)
	a.Write([]byte("after\n"))
	wantClosed(t, a)
	want := strings.Repeat(string(line), 1+kept) + fmt.Sprintf("%d lost\nafter\n", lost)
	if got := g.text.String(); got != want {
		t.Errorf("%d bytes, want %d; the end is %q", len(got), len(want), got[max(0, len(got)-40):])
	}
}

// fickle is a stream that fails while err is set, after it has taken some bytes.
type fickle struct {
	mu    sync.Mutex
	err   error
	takes int
	tried int
	text  bytes.Buffer
}

func (f *fickle) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.tried++
	if f.err == nil {
		return f.text.Write(p)
	}
	n, _ := f.text.Write(p[:min(f.takes, len(p))])
	return n, f.err
}

func (f *fickle) set(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
}

func (f *fickle) tries() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.tried
}

// Without a reader, lines are lost. The next reader gets their number.
func TestWriterSurvivesErrors(t *testing.T) {
	for _, err := range []error{syscall.EPIPE, syscall.EIO, syscall.ENOSPC, os.ErrClosed, errors.New("another")} {
		f := &fickle{err: err}
		a := newAsyncWriter(f, told)
		for i := range 3 {
			before := f.tries()
			fmt.Fprintf(a, "line %d\n", i)
			waitFor(t, func() bool { return f.tries() >= before+2 }) // the line, and the count
		}
		f.set(nil)
		io.WriteString(a, "line 3\n")
		wantClosed(t, a)
		if got := f.text.String(); got != "line 3\n3 lost\n" {
			t.Errorf("%v: %q", err, got)
		}
	}
}

// A line that was written in part counts as lost. The lines before it do not.
func TestWriterCountsWhatWasWrittenInPart(t *testing.T) {
	f := &fickle{err: syscall.ENOSPC, takes: 6}
	a := newAsyncWriter(f, func(lost int) []byte { return fmt.Appendf(nil, "\n%d lost\n", lost) })
	a.mu.Lock() // so that both lines are one write
	a.queue = append(a.queue, "1234\n6789\n"...)
	a.signal()
	a.mu.Unlock()
	waitFor(t, func() bool { return f.tries() >= 2 })
	f.mu.Lock()
	f.err = nil
	f.text.Reset()
	f.mu.Unlock()
	wantClosed(t, a)
	if got := f.text.String(); got != "\n1 lost\n" {
		t.Errorf("%q", got)
	}
}

// If another process makes a shared terminal or pipe non-blocking, no line is lost.
func TestWriterWaitsOnNonBlockingStream(t *testing.T) {
	f := &fickle{err: syscall.EAGAIN, takes: 3}
	a := newAsyncWriter(f, told)
	io.WriteString(a, "0123456789\n")
	waitFor(t, func() bool { return f.tries() >= 2 })
	f.set(nil)
	wantClosed(t, a)
	if got := f.text.String(); got != "0123456789\n" {
		t.Errorf("%q", got)
	}
}

// A write has whole lines, and no more bytes than a pipe takes at once. So no line lands inside the line of another process.
func TestWriterWritesWholeLines(t *testing.T) {
	short, long := strings.Repeat("s", 99)+"\n", strings.Repeat("l", 9999)+"\n"
	for _, tt := range []struct {
		text string
		want int
	}{
		{short, 100}, {strings.Repeat(short, 40), 4000}, {strings.Repeat(short, 41), 4000}, {short + long, 100},
		{long, 10000}, {long + short, 10000}, {strings.Repeat("x", 5000), 5000},
	} {
		if got := wholeLines([]byte(tt.text)); got != tt.want {
			t.Errorf("%d of %d bytes, want %d", got, len(tt.text), tt.want)
		}
	}
}

// close waits for the readers, but only for the given time.
func TestScreenClosesInTime(t *testing.T) {
	g := newGate()
	var out bytes.Buffer
	s := newScreen(&out, g)
	io.WriteString(s.log(), "record\n")
	<-g.writes
	s.status("one")
	began := time.Now()
	s.close(50 * time.Millisecond)
	if took := time.Since(began); took < 50*time.Millisecond || took > patience {
		t.Errorf("it took %v", took)
	}
	if out.String() != "one\n" { // one stream does not wait for the other
		t.Errorf("%q", &out)
	}
	close(g.open)
	<-s.err.done
	if got := g.text.String(); got != "record\n" {
		t.Errorf("%q", got)
	}
	s.err.Write([]byte("too late\n"))
	if got := g.text.String(); got != "record\n" {
		t.Errorf("%q", got)
	}
}

// waitFor polls a condition for which there is no event.
func waitFor(t *testing.T, met func() bool) {
	t.Helper()
	for late := time.Now().Add(patience); !met(); time.Sleep(time.Millisecond) {
		if time.Now().After(late) {
			t.Fatal("the condition has not become true in time")
		}
	}
}
