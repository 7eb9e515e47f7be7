package observe

import (
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"time"
)

// stream looks at the engine for all who watch: one look in each interval, however many they are, and none when nobody does.
type stream struct {
	look  func() any
	every time.Duration

	mu       sync.Mutex
	watchers map[chan []byte]struct{}
	running  bool   // run is on its way
	last     []byte // the latest look, for those who come
	at       time.Time
}

// writeWithin is how long a watcher may take for one look. One that is slower is left.
const writeWithin = 10 * time.Second

// serve sends a watcher each look, until one of both goes.
func (s *stream) serve(w http.ResponseWriter, r *http.Request) {
	looks, first := s.join()
	defer s.leave(looks)
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Accel-Buffering", "no") // nginx would hold it back
	to := http.NewResponseController(w)
	send := func(look []byte) bool {
		_ = to.SetWriteDeadline(time.Now().Add(writeWithin))
		_, err := fmt.Fprintf(w, "data: %s\n\n", look)
		return err == nil && to.Flush() == nil
	}
	if !send(first) {
		return
	}
	for {
		select {
		case look := <-looks:
			if !send(look) {
				return
			}
		case <-r.Context().Done():
			return
		}
	}
}

// join adds a watcher, and returns what it gets first: a look that is not older than the interval.
func (s *stream) join() (looks chan []byte, first []byte) {
	looks = make(chan []byte, 1)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.watchers == nil {
		s.watchers = make(map[chan []byte]struct{})
	}
	s.watchers[looks] = struct{}{}
	if time.Since(s.at) >= s.every {
		s.again()
	}
	if !s.running {
		s.running = true
		go s.run()
	}
	return looks, s.last
}

func (s *stream) leave(looks chan []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.watchers, looks)
}

// again looks once more. The caller holds mu.
func (s *stream) again() {
	look, err := json.Marshal(s.look())
	if err != nil { // a number that JSON has not
		look = []byte(`{"error":"observe: ` + err.Error() + `"}`)
	}
	s.last, s.at = look, time.Now()
}

// run looks until nobody watches. A watcher that has not taken the look before gets the next one.
func (s *stream) run() {
	tick := time.NewTicker(s.every)
	defer tick.Stop()
	for range tick.C {
		if !s.tell() {
			return
		}
	}
}

// tell looks once for all who watch. It returns false if nobody does.
func (s *stream) tell() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.watchers) == 0 {
		s.running, s.last, s.at = false, nil, time.Time{}
		return false
	}
	s.again()
	for looks := range s.watchers {
		select {
		case looks <- s.last:
		default:
		}
	}
	return true
}
