package reactor

import (
	"sync"

	"github.com/panjf2000/gnet/v2/pkg/logging"

	"github.com/servercore-go/servercore/internal/goroutines"
)

// gnet's poller tells gnet's logger of an error before it returns it. That logger belongs to the process, not to a loop, and
// by default writes to standard output, where it may block. The owner learns of the same error by OnShutdown. So what
// our loops' pollers say is left out, and what anybody else says, an application that uses gnet for example, goes where it went.
type gnetLog struct{ logging.Logger }

func (g gnetLog) Errorf(format string, args ...any) {
	if !loops.Own().Loop {
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

var loops = goroutines.Names[struct{}]{Loop: RunFunc}
