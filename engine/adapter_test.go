package engine

import (
	"testing"
	"unsafe"

	"github.com/servercore-go/servercore/session"
)

// What every session costs besides session.Session: one of the allocator's sizes. A session's transport is the same memory.
func TestTransportIsTheConnection(t *testing.T) {
	if n := unsafe.Sizeof(transport{}); n != 48 {
		t.Errorf("a connection takes %d bytes, want 48", n)
	}
	_, c := connect(t, Options{})
	if (*conn)((*transport)(c)) != c {
		t.Error("a transport is not its connection")
	}
}

// The way of a byte allocates nothing: in by OnTraffic, out by Write.
func TestNothingIsAllocatedForAMessage(t *testing.T) {
	_, c := connect(t, Options{SendLimit: -1, PauseAbove: -1})
	data := []byte("hello")
	bufs := [][]byte{data, data}
	tr := session.Transport((*transport)(c))
	allocated := onLoop(t, c, func() float64 {
		return testing.AllocsPerRun(100, func() {
			if n, err := tr.Write(bufs); n != 2*len(data) || err != nil {
				t.Errorf("Write: %d, %v", n, err)
			}
			tr.Scratch()
			tr.Now()
		})
	})
	if allocated != 0 {
		t.Errorf("%v allocations for each write", allocated)
	}
}

// The connection's errors that are not its end become the session's.
func TestErrorsOfWrite(t *testing.T) {
	_, c := connect(t, Options{SendLimit: -1, PauseAbove: -1, SendBuffer: 16 << 10})
	err := onLoop(t, c, func() error {
		for range 10_000 {
			if _, err := (*transport)(c).Write([][]byte{make([]byte, 16<<10)}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != session.ErrWouldBlock {
		t.Errorf("%v, want session.ErrWouldBlock", err)
	}
}
