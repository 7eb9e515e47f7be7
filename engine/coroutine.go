package engine

import "iter"

// job is what the coroutine is to do next.
type job struct {
	kind jobKind
	conn *conn
	data []byte
	err  error
}

type jobKind uint8

const (
	jobTurn jobKind = iota
	jobTraffic
	jobClose
)

// enter runs a job in the coroutine, on the goroutine of gnet's loop. gnet calls back from within EventLoop.Close;
// then the coroutine runs already and the job is done on the spot.
//
// A coroutine switch costs some 70 ns a round trip. It is what makes runtime.Goexit survivable: Goexit cannot be
// recovered from, so content must not run on a goroutine that the loop cannot lose.
func (l *loop) enter(j job) {
	if l.inside {
		l.do(j)
		return
	}
	l.inside = true
	l.job.kind, l.job.conn, l.job.data, l.job.err = j.kind, j.conn, j.data, j.err
	for {
		if alive, _ := l.next(); alive {
			break
		}
		l.inside = false
		go l.stop() // ends the lost goroutine; Goexit reaches whoever does so
		l.startCoroutine()
		l.inside = true
		l.job = job{kind: jobTurn} // carries on where the lost one was
	}
	l.inside = false
}

// startCoroutine makes a goroutine that does a job whenever next is called. next returns true when the job is
// done, false when content ended the goroutine.
func (l *loop) startCoroutine() {
	l.next, l.stop = iter.Pull(func(yield func(bool) bool) {
		finished := false
		defer func() {
			if !finished {
				yield(false)
			}
		}()
		for yield(true) {
			l.do(l.job)
		}
		finished = true
	})
	l.next()
}

func (l *loop) do(j job) {
	switch j.kind {
	case jobTurn:
		l.turn()
	case jobTraffic:
		j.conn.driver.Receive(j.data)
	case jobClose:
		j.conn.hungUp(j.err)
	}
}
