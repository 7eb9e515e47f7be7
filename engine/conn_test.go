package engine

import (
	"testing"
	"unsafe"
)

// What every session costs besides session.Session, whatever it does.
func TestConnIsSmall(t *testing.T) {
	if n := unsafe.Sizeof(conn{}); n > 64 {
		t.Errorf("a conn takes %d bytes, want at most 64: the next size the allocator has is 80", n)
	}
}
