package engine

import (
	"net"
	"testing"
)

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
