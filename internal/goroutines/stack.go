package goroutines

import (
	"bytes"
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
)

// ID returns the number of the goroutine that calls, as stacks have it. It takes some microseconds.
func ID() string {
	// "goroutine 18 [running]:"
	var b [64]byte
	fields := bytes.Fields(b[:runtime.Stack(b[:], false)])
	if len(fields) < 2 {
		return ""
	}
	return string(fields[1])
}

// maxStacks bounds the text that is searched for a goroutine's stack.
const maxStacks = 1 << 20

// stackOf returns the stack of the goroutine of that number, out of all, or why there is none. The world stands still while all are
// written down.
func stackOf(id string) string {
	if id == "" {
		return "none: the loop does not run"
	}
	all := make([]byte, 64<<10)
	for {
		n := runtime.Stack(all, true)
		if n < len(all) || len(all) >= maxStacks {
			all = all[:n]
			break
		}
		all = make([]byte, 4*len(all))
	}
	head := []byte("goroutine " + id + " ")
	for one := range bytes.SplitSeq(all, []byte("\n\n")) {
		if bytes.HasPrefix(one, head) {
			return string(one)
		}
	}
	return fmt.Sprintf("none: it is not among the first %d KiB of all", len(all)>>10)
}

// text returns a stack as text, much as panics have it.
func text(stack []uintptr) string {
	var b strings.Builder
	frames := runtime.CallersFrames(stack)
	for more := true; more; {
		var f runtime.Frame
		if f, more = frames.Next(); f.Function != "" {
			fmt.Fprintf(&b, "%s(...)\n\t%s:%d\n", f.Function, f.File, f.Line)
		}
	}
	return b.String()
}

// Position tells where a return address is: in which function, and at which file and line. It is "" for 0.
func Position(pc uintptr) string {
	if pc == 0 {
		return ""
	}
	f, _ := runtime.CallersFrames([]uintptr{pc}).Next()
	return fmt.Sprintf("in %s at %s:%d", f.Function, filepath.Base(f.File), f.Line)
}
