package reactor

import (
	"runtime"
	"strings"
	"sync"

	"github.com/panjf2000/gnet/v2/pkg/logging"
)

// gnet's poller tells gnet's logger of an error before it returns it. That logger belongs to the process, not to a loop, and
// by default writes to standard output, where it may block. The owner learns of the same error by OnShutdown. So what
// our loops' pollers say is left out, and what anybody else says, an application that uses gnet for example, goes where it went.
type gnetLog struct{ logging.Logger }

func (g gnetLog) Errorf(format string, args ...any) {
	if !onLoop() {
		g.Logger.Errorf(format, args...)
	}
}

var gnetLogMu sync.Mutex

// filterGnetLog has gnet's logger, as it is now, leave out what our loops' pollers say.
func filterGnetLog() {
	gnetLogMu.Lock()
	defer gnetLogMu.Unlock()
	now := logging.GetDefaultLogger()
	if _, filtered := now.(gnetLog); !filtered {
		logging.SetDefaultLoggerAndFlusher(gnetLog{now}, logging.GetDefaultFlusher())
	}
}

// RunFunc and WorkFunc are the functions by which the stack of a goroutine shows that it runs a loop, or is a worker.
const (
	RunFunc  = "github.com/servercore-go/servercore/internal/reactor.(*Loop[...]).run"
	WorkFunc = "github.com/servercore-go/servercore/internal/reactor.(*Workers[...]).serve"
)

// onLoop reports whether the goroutine that calls runs a loop. It takes some microseconds.
func onLoop() bool {
	pcs := make([]uintptr, 64)
	n := runtime.Callers(2, pcs)
	for n == len(pcs) {
		pcs = make([]uintptr, 4*len(pcs))
		n = runtime.Callers(2, pcs)
	}
	for frames := runtime.CallersFrames(pcs[:n]); ; {
		frame, more := frames.Next()
		if strings.HasPrefix(frame.Function, RunFunc) {
			return true
		}
		if !more {
			return false
		}
	}
}
