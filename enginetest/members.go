package enginetest

import (
	"io"
	"net"
	"sync"
	"time"

	kit "github.com/servercore-go/servercore/internal/enginekit"
	"github.com/servercore-go/servercore/session"
)

// members connects n members of g, each with a client that reads all it gets, and returns a function that waits until each has got
// that many bytes.
func (s *server) members(g *session.Group, n int) (peers []*kit.Session, got func(bytes int64)) {
	s.T.Helper()
	var clients []*reader
	for range n {
		c, p := s.connect()
		g.Join(p)
		r := &reader{wake: sync.NewCond(new(sync.Mutex))}
		go r.run(c)
		peers, clients = append(peers, p), append(clients, r)
	}
	return peers, func(bytes int64) {
		s.T.Helper()
		for i, r := range clients {
			if n := r.wait(bytes); n != bytes {
				s.T.Fatalf("client %d got %d bytes of %d, its session: %v", i, n, bytes, peers[i].Err())
			}
		}
	}
}

// reader is a client that reads and forgets.
type reader struct {
	wake *sync.Cond
	got  int64
	over bool
}

func (r *reader) run(c net.Conn) {
	_ = c.SetDeadline(time.Time{})
	_, _ = io.Copy(r, c)
	r.wake.L.Lock()
	defer r.wake.L.Unlock()
	r.over = true
	r.wake.Broadcast()
}

func (r *reader) Write(p []byte) (int, error) {
	r.wake.L.Lock()
	defer r.wake.L.Unlock()
	r.got += int64(len(p))
	r.wake.Broadcast()
	return len(p), nil
}

func (r *reader) wait(bytes int64) int64 {
	late := time.AfterFunc(2*kit.Patience, func() {
		r.wake.L.Lock()
		defer r.wake.L.Unlock()
		r.over = true
		r.wake.Broadcast()
	})
	defer late.Stop()
	r.wake.L.Lock()
	defer r.wake.L.Unlock()
	for r.got < bytes && !r.over {
		r.wake.Wait()
	}
	return r.got
}
