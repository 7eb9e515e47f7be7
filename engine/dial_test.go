package engine

import (
	"log/slog"
	"net"
	"testing"

	"github.com/servercore-go/servercore/internal/descriptors"
	"github.com/servercore-go/servercore/session"
)

// Package net's descriptor of a dialled connection does not stay beside ours.
func TestDialledConnectionHasOneDescriptor(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0") // nobody accepts: that would take another one
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	e, err := New(Options{Loops: 1, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Start(); err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	used := func() int {
		_, n, err := descriptors.Count()
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	const dials = 10
	before := used()
	for range dials {
		if _, err := e.Dial(t.Context(), "tcp", l.Addr().String(), session.Events{}.Factory()); err != nil {
			t.Fatal(err)
		}
	}
	if n := used() - before; n != dials {
		t.Errorf("%d connections take %d descriptors", dials, n)
	}
}
