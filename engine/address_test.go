package engine

import (
	"net"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/servercore-go/servercore/internal/reactor"
)

// One listener may be handed connections to several ports: with IP_TRANSPARENT, or by a socket lookup.
func TestLocalAddressOfEachConnection(t *testing.T) {
	l := &Listener{addr: &net.TCPAddr{IP: net.IPv4zero, Port: 1}, zones: make(map[uint32]string)}
	var last net.Addr
	ln, err := net.Listen("tcp4", "127.0.0.1:0") // one: connections to two may have the same port
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	for i := range 6 {
		client, err := net.Dial("tcp4", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		fd, err := reactor.Duplicate(client.(*net.TCPConn))
		if err != nil {
			t.Fatal(err)
		}
		got, err := l.local(fd)
		again, _ := l.local(fd) // from memory
		_ = unix.Close(fd)
		if err != nil || got.String() != client.LocalAddr().String() || got == last || again != got {
			t.Errorf("connection %d: %v, %v, and %p after %p, want %v", i, got, err, again, got, client.LocalAddr())
		}
		last = got
	}
}

// Names of interfaces are as package net has them, and numbers where there is none.
func TestZone(t *testing.T) {
	l := &Listener{zones: make(map[uint32]string)}
	interfaces, err := net.Interfaces()
	if err != nil || len(interfaces) == 0 {
		t.Fatal("no interface", err)
	}
	for range 2 { // asked, then remembered
		if got, want := l.zone(uint32(interfaces[0].Index)), interfaces[0].Name; got != want {
			t.Errorf("zone %d is %q, want %q", interfaces[0].Index, got, want)
		}
		if got := l.zone(0) + l.zone(1<<20); got != "1048576" {
			t.Errorf("zones 0 and 2^20 are %q", got)
		}
	}
}
