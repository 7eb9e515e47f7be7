package echoserver

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/servercore-go/servercore/engine"
)

// clearLine moves the cursor to the first column and erases the line.
const clearLine = "\r\x1b[K"

// A screen is the two output streams of the program. It keeps the status line and the log apart: both often share one terminal, and a
// status line that is redrawn in place has no line feed at its end. No method but close waits for a reader of the streams.
type screen struct {
	out, err *asyncWriter // the same if both streams are one file
	columns  func() int   // returns the width of the terminal behind out, 0 if there is none; called for every line, because it may change

	mu    sync.Mutex
	drawn string // the status line that the terminal shows, "" for none
}

func newScreen(stdout, stderr io.Writer) *screen {
	s := &screen{columns: func() int { return terminalColumns(stdout) }}
	s.err = newAsyncWriter(stderr, lostLog)
	if s.out = s.err; !sameStream(stdout, stderr) {
		s.out = newAsyncWriter(stdout, lostLines)
	}
	return s
}

func lostLog(lost int) []byte {
	var b bytes.Buffer
	slog.New(slog.NewTextHandler(&b, nil)).Warn("lines lost: the reader of the log did not take them", "lines", lost)
	return b.Bytes()
}

func lostLines(lost int) []byte {
	return fmt.Appendf(nil, "%d lines lost: the reader did not take them\n", lost)
}

// close writes what is queued, for at most limit.
func (s *screen) close(limit time.Duration) {
	late := time.After(limit)
	s.out.close()
	s.err.close()
	for _, a := range []*asyncWriter{s.out, s.err} {
		select {
		case <-a.done:
		case <-late:
			return
		}
	}
}

// terminalColumns returns the width of the terminal behind w, 0 if w is not a terminal. It asks for the window size, by a request that is
// the same on every Unix.
func terminalColumns(w io.Writer) int {
	f, ok := w.(*os.File)
	if !ok {
		return 0
	}
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0
	}
	if size.Col == 0 { // a terminal that does not know its width: a serial line, some emulators
		return 80
	}
	return int(size.Col)
}

// log returns the writer for log records. Each Write must be one whole line.
func (s *screen) log() io.Writer { return screenLog{s} }

type screenLog struct{ s *screen }

func (l screenLog) Write(line []byte) (int, error) {
	s := l.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.drawn == "" || s.out != s.err {
		return s.err.Write(line)
	}
	s.err.Write(slices.Concat([]byte(clearLine), line, []byte(s.drawn)))
	return len(line), nil
}

// status shows a status line. On a terminal it replaces the one before.
func (s *screen) status(line string) {
	columns := s.columns()
	s.mu.Lock()
	defer s.mu.Unlock()
	if columns == 0 {
		fmt.Fprintln(s.out, line)
		return
	}
	// A line that wraps cannot be redrawn. The last column stays free, because some terminals wrap there.
	s.drawn = line[:min(len(line), columns-1)]
	io.WriteString(s.out, clearLine+s.drawn)
}

// endStatus ends the status line on the terminal with a line feed.
func (s *screen) endStatus() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.drawn != "" {
		io.WriteString(s.out, "\n")
		s.drawn = ""
	}
}

// showStatus shows a status line every interval until the returned function is called.
func (s *screen) showStatus(interval time.Duration, stats func() engine.Stats) (stop func()) {
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		defer s.endStatus()
		tick := time.NewTicker(interval)
		defer tick.Stop()
		last, at := stats(), time.Now()
		for {
			select {
			case <-quit:
				return
			case <-tick.C:
			}
			now := time.Now()
			next := stats()
			s.status(statusLine(last, next, now.Sub(at)))
			last, at = next, now
		}
	}()
	return func() { close(quit); <-done }
}

// statusLine returns the status line for the time between two snapshots.
func statusLine(last, now engine.Stats, elapsed time.Duration) string {
	rate := func(before, after uint64) float64 { return float64(after-before) / elapsed.Seconds() }
	a, b := &last.Total, &now.Total
	return fmt.Sprintf("sessions %d, accepted %d, refused %d; msg/s in %.0f out %.0f; MB/s in %.2f out %.2f",
		now.Sessions, now.Accepted, now.Refused.Sum(),
		rate(a.MessagesIn, b.MessagesIn), rate(a.MessagesOut, b.MessagesOut),
		rate(a.BytesIn, b.BytesIn)/1e6, rate(a.BytesOut, b.BytesOut)/1e6)
}
