package freeport

import (
	"errors"
	"net"
	"syscall"
	"testing"
)

// Each call returns another address, at which a program can listen, below what the system gives.
func TestAddr(t *testing.T) {
	seen := make(map[string]bool)
	for _, host := range []string{"127.0.0.1", "127.0.0.1", "", "127.0.0.1"} {
		addr, err := Addr(host)
		if err != nil {
			t.Fatal(err)
		}
		l, err := net.Listen("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		_, port, _ := net.SplitHostPort(addr)
		if n := l.Addr().(*net.TCPAddr).Port; seen[port] || n < first || n > last {
			t.Errorf("%s after %v", addr, seen)
		}
		seen[port] = true
	}
}

// A port on which somebody listens is left out.
func TestTaken(t *testing.T) {
	given.Lock()
	before := given.port
	given.Unlock()
	addr, err := Addr("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	given.Lock()
	given.port = before
	given.Unlock()
	if again, err := Addr("127.0.0.1"); err != nil || again == addr {
		t.Errorf("%s, %v: want another than %s", again, err, addr)
	}
}

// Nobody is served at a refusing address, and nobody else is given it, until it is free.
func TestRefusing(t *testing.T) {
	addr, free, err := Refusing()
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, err := net.Dial("tcp", addr); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("Dial: %v, want it refused", err)
		}
		if _, err := net.Listen("tcp", addr); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("Listen: %v, want that it is in use", err)
		}
	}
	if err := free(); err != nil {
		t.Error(err)
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
}
