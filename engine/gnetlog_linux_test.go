package engine

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/panjf2000/gnet/v2/pkg/logging"
)

// gnetBook is a gnet logger that keeps the errors it is told of.
type gnetBook struct {
	logging.Logger
	mu   sync.Mutex
	said []string
}

func (b *gnetBook) Errorf(format string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.said = append(b.said, fmt.Sprintf(format, args...))
}

func (b *gnetBook) all() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.said)
}

// T7: what a loop's poller has to say goes to Options.Logger, and not to gnet's. What others tell gnet's logger arrives there.
func TestPollerErrorsGoToTheLogger(t *testing.T) {
	logger, flusher := logging.GetDefaultLogger(), logging.GetDefaultFlusher()
	defer logging.SetDefaultLoggerAndFlusher(logger, flusher)
	gnets, ours := &gnetBook{}, &logBook{}
	flushed := false
	logging.SetDefaultLoggerAndFlusher(gnets, func() error { flushed = true; return nil })
	e, err := New(Options{Loops: 1, Logger: slog.New(ours)})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Start(); err != nil {
		t.Fatal(err)
	}
	logging.Errorf("said by %s", "the application")
	logging.Cleanup()
	breakPoller(t, e.loops[0])
	receive(t, e.Done())
	if said := gnets.all(); !slices.Equal(said, []string{"said by the application"}) || !flushed {
		t.Errorf("gnet's logger was told %q, flushed: %v", said, flushed)
	}
	if all := ours.all(); len(all) != 1 || !strings.Contains(all[0]["err"].String(), "event loop 0 ended by itself") {
		t.Errorf("Options.Logger was told %v", all)
	}
}
