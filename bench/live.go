package bench

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// clearLine returns the cursor to the first column and erases what the line holds.
const clearLine = "\r\x1b[K"

// Live shows where a run stands in one line of a terminal, redrawn in place. On anything else it shows nothing. Its
// methods may be called from any goroutine.
type Live struct {
	out     io.Writer
	columns func() int // 0 for no terminal

	mu    sync.Mutex
	drawn bool
}

// NewLive returns a line for out, which shows nothing unless out is a terminal.
func NewLive(out io.Writer) *Live {
	return &Live{out: out, columns: func() int { return terminalColumns(out) }}
}

// terminalColumns asks for the window size, which only a terminal has.
func terminalColumns(w io.Writer) int {
	f, ok := w.(*os.File)
	if !ok {
		return 0
	}
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0
	}
	if size.Col == 0 { // a terminal that does not say
		return 80
	}
	return int(size.Col)
}

// Show draws p over what the line showed before. It fits as Options.Progress.
func (l *Live) Show(p Progress) {
	l.mu.Lock()
	defer l.mu.Unlock()
	columns := l.columns()
	if columns == 0 {
		return
	}
	line := p.String()
	line = line[:min(len(line), columns-1)] // ASCII only; a line that wraps could not be redrawn
	io.WriteString(l.out, clearLine+line)
	l.drawn = true
}

// Clear erases the line, before other output.
func (l *Live) Clear() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.drawn {
		io.WriteString(l.out, clearLine)
		l.drawn = false
	}
}

const barWidth = 20

// String is the line: elapsed time, a bar, connections, messages per second, p99 so far, errors.
func (p Progress) String() string {
	part := 0.0
	if p.Total > 0 {
		part = min(1, max(0, p.Elapsed.Seconds()/p.Total.Seconds()))
	}
	full := int(part * barWidth)
	bar := strings.Repeat("#", full) + strings.Repeat(".", barWidth-full)
	what := string(p.Mode)
	if p.Step != "" {
		what += " " + p.Step
	}
	s := fmt.Sprintf("%s %5.1f s [%s] %d conns, %.0f msg/s", what, p.Elapsed.Round(100*time.Millisecond).Seconds(), bar, p.Conns, p.Messages)
	if p.P99 > 0 {
		s += ", p99 " + duration(float64(p.P99)/1e3)
	}
	s += fmt.Sprintf(", %d errors", p.Errors)
	if p.Phase != "running" {
		s += " (" + p.Phase + ")"
	}
	return s
}
