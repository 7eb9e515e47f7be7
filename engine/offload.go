package engine

import (
	"fmt"

	"github.com/servercore-go/servercore/internal/reactor"
	"github.com/servercore-go/servercore/session"
)

// Offload has the callbacks of the sessions run on workers, at most that many at once, instead of on the event loops: they
// may wait, for a database or a file, and neither the loops nor sessions without this option notice. Everything else is as
// the contract says: the callbacks of one session run in order, never two at once, and what they send leaves when they
// return. "The session's loop" then means "in the session's order". The factory still runs on the loop and must not wait.
//
// When every worker is at work, sessions that have something to do wait in line, each at most once, and are not read: TCP holds their
// peers. Nothing else grows. A worker makes up to four reads for a session, none after one that brought 16 KiB or more, then it serves the
// next in line. Callbacks must not wait for each other: if all workers wait for what only another one would bring about, nothing happens
// any more.
//
// Goroutines change for every message, so a handler that never waits is better off on a loop. A worker has a goroutine and 150 KiB of
// memory while it is at work, 300 KiB once it has served a session with TLS or WebSocket, and nothing otherwise; a session takes about 100
// bytes more. One Option given to several listeners means one set of workers for all of them. workers is 1 to 100,000.
func Offload(workers int) Option {
	w := reactor.NewWorkers[*session.Driver](workers, func() any { return session.NewScratch() })
	return func(o *origin) error {
		if workers < 1 || workers > maxWorkers {
			return fmt.Errorf("Offload: %d workers, want 1 to %d", workers, maxWorkers)
		}
		o.workers = w
		return nil
	}
}

const maxWorkers = 100_000
