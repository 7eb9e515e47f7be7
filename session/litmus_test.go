package session_test

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/servercore-go/servercore/session"
)

// litmus is a transport and a loop that add no synchronisation of their own to the session's: one flag for the
// wake-up, busy waiting on every side.
type litmus struct {
	session.Transport // what is not called
	scratch           *session.Scratch
	woken, again      atomic.Bool
	wakes             atomic.Int64
	taken             atomic.Int64
}

func (m *litmus) Wake() {
	m.wakes.Add(1)
	if m.woken.Swap(true) {
		panic("Wake while a Turn is owed")
	}
}
func (m *litmus) Scratch() *session.Scratch { return m.scratch }
func (m *litmus) Again()                    { m.again.Store(true) }
func (m *litmus) Now() time.Duration        { return time.Second }
func (m *litmus) Arm(time.Duration)         {}
func (m *litmus) Unsent() int               { return 0 }
func (m *litmus) Received() int             { return 0 }
func (m *litmus) Close(bool)                {}
func (m *litmus) Done()                     {}
func (m *litmus) Reading(bool) error        { return nil }
func (m *litmus) Write(bufs [][]byte) (n int, err error) {
	for _, b := range bufs {
		n += len(b)
	}
	m.taken.Add(int64(n))
	return n, nil
}

// I4: no request is lost and none wakes twice, whatever the instants at which two goroutines ask and the loop
// looks. In each round both ask and wait until both were served; after a lost wake-up they wait for ever.
func TestWakeupLitmus(t *testing.T) {
	rounds := int64(200_000)
	if raced || testing.Short() {
		rounds = 10_000
	}
	const patience = 20 * time.Second
	type ask func(s *session.Session, m *litmus) error
	send := func(s *session.Session, _ *litmus) error { return s.Send([]byte{1}) }
	post := func(s *session.Session, m *litmus) error { return s.Post(func() { m.taken.Add(1) }) }
	sendInPost := func(s *session.Session, m *litmus) error {
		return s.Post(func() { _ = send(s, m) })
	}
	toggle := func(s *session.Session, m *litmus) error {
		s.PauseRecv()
		err := send(s, m)
		s.ResumeRecv()
		return err
	}
	for name, pair := range map[string][2]ask{
		"send, send": {send, send}, "send, post": {send, post}, "post, post": {post, post},
		"send, send in post": {send, sendInPost}, "send, pause and send": {send, toggle},
	} {
		t.Run(name, func(t *testing.T) {
			m := &litmus{scratch: session.NewScratch()}
			h := &struct{ session.Session }{}
			d, err := session.Bind(h, m, session.NewLoop(session.Limits{}), nil, nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			d.Connected()
			var over, lost atomic.Bool
			var loop, askers sync.WaitGroup
			loop.Go(func() {
				for !over.Load() {
					switch {
					case m.woken.CompareAndSwap(true, false):
						d.Turn()
					case m.again.CompareAndSwap(true, false):
						d.Resume()
					default:
						runtime.Gosched()
					}
				}
			})
			for _, ask := range pair {
				askers.Go(func() {
					for round := range rounds {
						if err := ask(&h.Session, m); err != nil {
							t.Error(err)
							return
						}
						began := time.Time{}
						for spins := 0; m.taken.Load() < 2*(round+1); spins++ {
							runtime.Gosched()
							if spins%(1<<14) != 1<<14-1 {
								continue
							}
							if began.IsZero() {
								began = time.Now()
							} else if time.Since(began) > patience {
								lost.Store(true)
							}
							if lost.Load() {
								return
							}
						}
					}
				})
			}
			askers.Wait()
			if taken := m.taken.Load(); taken != 2*rounds {
				t.Errorf("a wake-up was lost: %d of %d requests were served", taken, 2*rounds)
			}
			h.Abort()
			for began := time.Now(); !ended(&h.Session) && time.Since(began) < patience; {
				runtime.Gosched()
			}
			over.Store(true)
			loop.Wait()
			if !d.Ended() {
				t.Error("Abort was lost")
			}
			t.Logf("%d wake-ups for %d requests", m.wakes.Load(), 2*rounds)
		})
	}
}

// E2: the peer's FIN ends a session whose queue is empty; a Send at the same instant either is refused or leaves.
func TestFINLitmus(t *testing.T) {
	rounds := 5_000
	if raced || testing.Short() {
		rounds = 1_000
	}
	sessions, accepted := make(chan *session.Session), make(chan int64)
	go func() {
		defer close(accepted)
		for s := range sessions {
			n := int64(0)
			for s.Send([]byte{1}) == nil {
				n++
			}
			accepted <- n
		}
	}()
	shared, early := session.NewLoop(session.Limits{}), 0
	for round := range rounds {
		m := &litmus{scratch: session.NewScratch()}
		h := &struct{ session.Session }{}
		d, err := session.Bind(h, m, shared, nil, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		d.Connected()
		sessions <- &h.Session
		for range round % 5 { // any instant
			runtime.Gosched()
		}
		for d.PeerClosed(nil); !d.Ended(); {
			if m.again.Swap(false) {
				d.Resume()
			}
			if m.woken.Swap(false) {
				d.Turn()
			}
		}
		n := <-accepted
		if m.woken.Swap(false) {
			d.Turn()
		}
		if n != m.taken.Load() {
			t.Errorf("round %d: %d bytes accepted, %d left", round, n, m.taken.Load())
			break
		}
		if n == 0 {
			early++
		}
	}
	close(sessions)
	if <-accepted; early == rounds {
		t.Error("the sender never came in between")
	}
	t.Logf("%d of %d sessions took bytes", rounds-early, rounds)
}
