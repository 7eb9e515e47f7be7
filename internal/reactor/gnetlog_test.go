package reactor

import (
	"sync/atomic"
	"testing"

	"github.com/panjf2000/gnet/v2/pkg/logging"
)

// countingLog counts the errors that gnet's logger is told of.
type countingLog struct {
	logging.Logger
	errors atomic.Int32
}

func (l *countingLog) Errorf(string, ...any) { l.errors.Add(1) }

// What is said on a loop is left out of gnet's log, and what others say is not. The filter is put in once, however many loops there are.
func TestGnetLogIsFiltered(t *testing.T) {
	logger, flusher := logging.GetDefaultLogger(), logging.GetDefaultFlusher()
	defer logging.SetDefaultLoggerAndFlusher(logger, flusher)
	count := new(countingLog)
	logging.SetDefaultLoggerAndFlusher(count, flusher)
	running(t)
	o := running(t)
	if inner, ok := logging.GetDefaultLogger().(gnetLog); !ok || inner.Logger != logging.Logger(count) {
		t.Errorf("gnet's logger is %T", logging.GetDefaultLogger())
	}
	ask(o, func() bool { logging.Errorf("said on a loop"); return true })
	if n := count.errors.Load(); n != 0 {
		t.Errorf("%d errors of a loop are told", n)
	}
	logging.Errorf("said by the application")
	if n := count.errors.Load(); n != 1 {
		t.Errorf("%d errors of the application are told, want 1", n)
	}
}
