package engine

import (
	"sync"

	"github.com/panjf2000/gnet/v2/pkg/logging"
)

// gnet's poller tells gnet's logger of an error before it returns it. That logger belongs to the process, not to an engine, and
// by default writes to standard output, where it may block. The engine tells Options.Logger of the same error itself. So what
// our loops' pollers say is left out, and what anybody else says, an application that uses gnet for example, goes where it went.
type gnetLog struct{ logging.Logger }

func (g gnetLog) Errorf(format string, args ...any) {
	if !ownRole().loop {
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
