package descriptors

import (
	"sync"

	"golang.org/x/sys/unix"
)

// Spare is a descriptor kept for the moment when there are no others. It needs no path: the process may be in a chroot. And it
// is an open file of its own, not a duplicate, so that giving it up helps against ENFILE too. The zero value is ready for use, and holds
// none. Any goroutine may call its methods.
type Spare struct {
	// Open opens the descriptor. Nil means an eventfd, or a kqueue. It is set before first use.
	Open func() (fd int, err error)

	mu   sync.Mutex
	held bool
	fd   int
}

// Keep opens the spare descriptor unless there is one. The error says why there is none.
func (s *Spare) Keep() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.keepLocked()
}

func (s *Spare) keepLocked() (err error) {
	if s.held {
		return nil
	}
	open := s.Open
	if open == nil {
		open = openSpare
	}
	s.fd, err = open()
	s.held = err == nil
	return err
}

// Close closes the spare descriptor if there is one.
func (s *Spare) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closeLocked()
}

func (s *Spare) closeLocked() {
	if s.held {
		_ = unix.Close(s.fd)
		s.held = false
	}
}

// Lend gives the spare descriptor up while f runs, for f to use, and opens another one then. The error says why there is none. Nobody else
// can have the spare meanwhile: f must not call the Spare.
func (s *Spare) Lend(f func()) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closeLocked()
	f()
	return s.keepLocked()
}

// Held reports whether there is a spare descriptor now.
func (s *Spare) Held() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.held
}
