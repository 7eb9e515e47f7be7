package main

import (
	"iter"

	"github.com/servercore-go/servercore/record"
)

// answers reads what a recorded server sent, piece by piece: the bytes that are compared now, and a few before them, are in memory.
type answers struct {
	next  func() (record.Event, error, bool)
	stop  func()
	total int    // bytes of all
	from  int    // where b begins
	b     []byte // read and not dropped
	err   error  // of the recording
}

func newAnswers(s *script) *answers {
	next, stop := iter.Pull2(s.events)
	return &answers{next: next, stop: stop, total: s.answers}
}

// read reads up to a place. It returns false if there are fewer bytes.
func (a *answers) read(to int) bool {
	for a.from+len(a.b) < to {
		e, err, more := a.next()
		if err != nil {
			a.err = err
		}
		if err != nil || !more {
			return false
		}
		if !e.Client {
			a.b = append(a.b, e.Data...)
		}
	}
	return true
}

// part returns the bytes between two places, as far as there are any. from is not before what was dropped. They are valid until the next call of a
// method.
func (a *answers) part(from, to int) []byte {
	a.read(to)
	have := a.from + len(a.b)
	return a.b[min(from, have)-a.from : min(to, have)-a.from]
}

// readMore reads another piece. It returns false if there is none.
func (a *answers) readMore() bool { return a.read(a.from + len(a.b) + 1) }

// drop gives up the bytes before a place. It moves the others when they are few.
func (a *answers) drop(before int) {
	if n := min(before-a.from, len(a.b)); n > len(a.b)/2 {
		a.b = append(a.b[:0], a.b[n:]...)
		a.from += n
	}
}
