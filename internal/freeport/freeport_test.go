package freeport

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
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
	given.next--
	given.Unlock()
	if again, err := Addr("127.0.0.1"); err != nil || again == addr {
		t.Errorf("%s, %v: want another than %s", again, err, addr)
	}
}

// The ports of a block come around, but for the one that says whose block it is.
func TestBlockComesAround(t *testing.T) {
	seen := make(map[string]int)
	for range 2 * (blockSize - 1) {
		addr, err := Addr("127.0.0.1")
		if err != nil {
			t.Fatal(err)
		}
		seen[addr]++
	}
	given.Lock()
	defer given.Unlock()
	if n := seen[fmt.Sprint("127.0.0.1:", given.block)]; n != 0 || given.block == 0 || (given.block-first)%blockSize != 0 {
		t.Errorf("the block's own port %d was given %d times", given.block, n)
	}
	for addr, n := range seen {
		if _, port, _ := net.SplitHostPort(addr); n > 2 || port < strconv.Itoa(given.block) || port >= strconv.Itoa(given.block+blockSize) {
			t.Errorf("%s was given %d times, of the block from %d", addr, n, given.block)
		}
	}
}

// Nobody else has a block that is reserved. When none is left, one is shared. (Below the blocks of tests that run meanwhile.)
func TestReserve(t *testing.T) {
	const from, blocks = first - 3*blockSize, 3
	seen := make(map[int]bool)
	for i := range blocks + 1 {
		block, fd := reserve(from, blocks)
		if fd >= 0 {
			defer unix.Close(fd)
		}
		if (fd < 0) != (i == blocks) || seen[block] != (i == blocks) || block < from || block >= first || (block-from)%blockSize != 0 {
			t.Errorf("%d: block %d, descriptor %d, after %v", i, block, fd, seen)
		}
		seen[block] = true
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
