package main

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// report is what came of a run.
type report struct {
	config   *config
	scripts  []*script
	left     leftOut
	began    time.Time
	took     time.Duration
	want     int64 // bytes that are expected, and those that are to be sent
	toSend   int64
	sent     atomic.Int64
	received atomic.Int64

	mu        sync.Mutex
	played    int
	pieces    int
	messages  int
	bad       int // messages that differ
	different int // sessions that differ
	shown     []shown
}

// shown is a difference that is to be printed.
type shown struct {
	script *script
	copy   int
	result result
}

func newReport(c *config, scripts []*script, left leftOut) *report {
	r := &report{config: c, scripts: scripts, left: left}
	for _, s := range scripts {
		r.want += int64(s.answers * c.copies)
		r.toSend += int64(s.sends * c.copies)
	}
	return r
}

// add adds the result of a session.
func (r *report) add(s *script, copy int, result result) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.played++
	r.pieces += result.pieces
	r.messages += result.messages
	r.bad += result.bad
	if result.first == nil {
		return
	}
	r.different++
	if len(r.shown) < r.config.show {
		r.shown = append(r.shown, shown{s, copy, result})
	}
}

// showProgress writes a line each second to a terminal. stop ends it.
func (r *report) showProgress(w io.Writer) (stop func()) {
	f, ok := w.(*os.File)
	if !ok {
		return func() {}
	}
	if info, err := f.Stat(); err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return func() {}
	}
	end, gone := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(gone)
		t := time.NewTicker(time.Second)
		defer t.Stop()
		for {
			select {
			case <-t.C:
				fmt.Fprintf(w, "\r\x1b[K%s", r.progress())
			case <-end:
				fmt.Fprint(w, "\r\x1b[K")
				return
			}
		}
	}()
	return sync.OnceFunc(func() { close(end); <-gone })
}

func (r *report) progress() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return fmt.Sprintf("%s of %s sessions, %s of %s sent, %s of %s received, %s", count(r.played), count(len(r.scripts)*r.config.copies),
		size(r.sent.Load()), size(r.toSend), size(r.received.Load()), size(r.want), differ(r.different))
}

// write writes the differences and the summary.
func (r *report) write(w io.Writer) {
	for _, s := range r.shown {
		s.write(w)
	}
	if n := r.different - len(r.shown); n > 0 {
		fmt.Fprintf(w, "... and %s that are not shown; -show prints more\n", plural(n, "session"))
	}
	what := plural(r.played, "session")
	if r.config.copies > 1 {
		what += fmt.Sprintf(" (%d copies of %s)", r.config.copies, count(len(r.scripts)))
	}
	fmt.Fprintf(w, "played    %s against %s in %v\n", what, r.config.addr, r.took.Round(time.Millisecond))
	fmt.Fprintf(w, "sent      %s of %s, in %s\n", size(r.sent.Load()), size(r.toSend), plural(r.pieces, "piece"))
	fmt.Fprintf(w, "received  %s of %s\n", size(r.received.Load()), size(r.want))
	if r.config.framer != nil {
		fmt.Fprintf(w, "compared  %s messages, of which %s differ\n", count(r.messages), count(r.bad))
	}
	if r.left != (leftOut{}) {
		fmt.Fprintf(w, "left out  sessions: %v\n", r.left)
	}
	fmt.Fprintf(w, "result    %s\n", differ(r.different))
}

// differ tells how many sessions differ.
func differ(n int) string {
	switch n {
	case 0:
		return "no difference"
	case 1:
		return "1 session differs"
	}
	return count(n) + " sessions differ"
}

// write writes the first difference of a session.
func (s shown) write(w io.Writer) {
	d := s.result.first
	fmt.Fprintf(w, "session %d of %v", s.script.session.ID, s.script.session.Client)
	if s.copy > 0 {
		fmt.Fprintf(w, ", copy %d", s.copy+1)
	}
	fmt.Fprintf(w, ": byte %d of the answers", d.offset)
	if d.message > 0 {
		fmt.Fprintf(w, ", message %d, byte %d of it", d.message, d.inside)
	}
	if d.what != "" {
		fmt.Fprintf(w, ": %s", d.what)
	}
	fmt.Fprintln(w)
	if len(d.want) > 0 {
		fmt.Fprintf(w, "    want %s\n", dump(d.want, d.marked))
	}
	if len(d.got) > 0 {
		fmt.Fprintf(w, "    got  %s\n", dump(d.got, d.marked))
	}
	if s.result.bad > 1 {
		fmt.Fprintf(w, "    and %s more of this session\n", plural(s.result.bad-1, "message"))
	}
}

// dump returns bytes in hexadecimal, with one marked, and as text.
func dump(b []byte, marked int) string {
	var hex, text strings.Builder
	for i, v := range b {
		switch i {
		case marked:
			fmt.Fprintf(&hex, "[%02x]", v)
		default:
			fmt.Fprintf(&hex, " %02x ", v)
		}
		if v < ' ' || v > '~' {
			v = '.'
		}
		text.WriteByte(v)
	}
	return fmt.Sprintf("%-*s %q", 8*around, hex.String(), text.String())
}

// size returns bytes with a unit; 1 kB is 1,000 bytes.
func size(n int64) string {
	for _, u := range []struct {
		unit string
		size int64
	}{{"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3}} {
		if n >= u.size {
			return fmt.Sprintf("%.1f %s", float64(n)/float64(u.size), u.unit)
		}
	}
	return strconv.FormatInt(n, 10) + " B"
}

// plural returns a number of things.
func plural(n int, thing string) string {
	if n != 1 {
		thing += "s"
	}
	return count(n) + " " + thing
}

// count returns a number with commas.
func count(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
