package observe

import (
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"time"
)

// stream sends snapshots of the engine to the watchers: one in each interval, however many watchers there are, and none without a watcher.
type stream struct {
	take  func() any // takes a snapshot, which becomes JSON
	every time.Duration

	mu       sync.Mutex
	watchers map[chan []byte]struct{}
	running  bool   // run is active
	last     []byte // the latest snapshot, for the next watcher
	at       time.Time
}

// writeWithin is how long a watcher may take to receive a snapshot. The connection of a slower one is closed.
const writeWithin = 10 * time.Second

// serve sends each snapshot to a watcher, until its connection or the server ends.
func (s *stream) serve(w http.ResponseWriter, r *http.Request) {
	snapshots, first := s.join()
	defer s.leave(snapshots)
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Accel-Buffering", "no") // nginx would hold it back
	to := http.NewResponseController(w)
	send := func(snapshot []byte) bool {
		_ = to.SetWriteDeadline(time.Now().Add(writeWithin))
		_, err := fmt.Fprintf(w, "data: %s\n\n", snapshot)
		return err == nil && to.Flush() == nil
	}
	if !send(first) {
		return
	}
	for {
		select {
		case snapshot := <-snapshots:
			if !send(snapshot) {
				return
			}
		case <-r.Context().Done():
			return
		}
	}
}

// join adds a watcher, and returns what it gets first: a snapshot that is not older than the interval.
func (s *stream) join() (snapshots chan []byte, first []byte) {
	snapshots = make(chan []byte, 1)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.watchers == nil {
		s.watchers = make(map[chan []byte]struct{})
	}
	s.watchers[snapshots] = struct{}{}
	if time.Since(s.at) >= s.every {
		s.refresh()
	}
	if !s.running {
		s.running = true
		go s.run()
	}
	return snapshots, s.last
}

func (s *stream) leave(snapshots chan []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.watchers, snapshots)
}

// refresh takes a snapshot. The caller holds mu.
func (s *stream) refresh() {
	text, err := json.Marshal(s.take())
	if err != nil { // JSON has no NaN and no infinity
		text = []byte(`{"error":"observe: ` + err.Error() + `"}`)
	}
	s.last, s.at = text, time.Now()
}

// run takes snapshots as long as there is a watcher. A watcher that has not received one yet misses the next.
func (s *stream) run() {
	tick := time.NewTicker(s.every)
	defer tick.Stop()
	for range tick.C {
		if !s.tell() {
			return
		}
	}
}

// tell sends a new snapshot to the watchers. It returns false if there are none.
func (s *stream) tell() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.watchers) == 0 {
		s.running, s.last, s.at = false, nil, time.Time{}
		return false
	}
	s.refresh()
	for snapshots := range s.watchers {
		select {
		case snapshots <- s.last:
		default:
		}
	}
	return true
}
