package descriptors

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"
)

func isOpen(fd int) bool {
	_, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	return err == nil
}

// One descriptor is held at a time: from Keep to Close, and not while it is lent.
func TestSpare(t *testing.T) {
	var s Spare
	if s.Held() {
		t.Error("the zero value holds one")
	}
	if err := s.Keep(); err != nil || !s.Held() {
		t.Fatal(err, s.Held())
	}
	first := s.fd
	if err := s.Keep(); err != nil || s.fd != first {
		t.Errorf("a second spare is opened: %v", err)
	}
	lent := false
	if err := s.Lend(func() { lent = !isOpen(first) }); err != nil || !lent || !s.Held() {
		t.Errorf("lent: %v, %v; held after that: %v", lent, err, s.Held())
	}
	last := s.fd
	s.Close()
	if isOpen(last) || s.Held() {
		t.Error("the spare is not closed")
	}
	s.Close()
}

// What cannot be opened is an error, and the next Keep tries again.
func TestSpareThatCannotBeOpened(t *testing.T) {
	answers := []error{nil, unix.EMFILE, unix.EPERM, nil}
	s := Spare{Open: func() (int, error) {
		err := answers[0]
		if answers = answers[1:]; err != nil {
			return -1, err
		}
		return openSpare()
	}}
	defer s.Close()
	if err := s.Keep(); err != nil {
		t.Fatal(err)
	}
	if err := s.Lend(func() {}); !errors.Is(err, unix.EMFILE) || s.Held() {
		t.Errorf("Lend: %v, held: %v, want EMFILE", err, s.Held())
	}
	if err := s.Keep(); !errors.Is(err, unix.EPERM) || s.Held() {
		t.Errorf("Keep: %v, held: %v, want EPERM", err, s.Held())
	}
	if err := s.Keep(); err != nil || !s.Held() {
		t.Errorf("Keep: %v, held: %v", err, s.Held())
	}
}

// The spare is an open file of its own: giving up a duplicate would not help against ENFILE.
func TestSpareIsAFileOfItsOwn(t *testing.T) {
	first, err := openSpare()
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(first)
	second, err := openSpare()
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(second)
	if first == second {
		t.Error("one descriptor twice")
	}
	for _, fd := range []int{first, second} {
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
			t.Errorf("flags %x, %v", flags, err)
		}
	}
}
