package engine

import (
	"io"
	"log/slog"
	"net"
	"reflect"
	"slices"
	"testing"
	"time"
	"unsafe"

	"github.com/servercore-go/servercore/session"
)

// A message that comes and is answered writes nothing that other loops use: not in the engine, its budget, its listeners' counts, or another loop.
// So the cost of a message does not grow with the number of loops. A lock that is taken and given back, or a sum that is raised and lowered
// again, is not seen here.
func TestByteWayWritesNothingShared(t *testing.T) {
	e, err := New(Options{Loops: 2, SendBudget: 64 << 20, StallWarning: -1, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	s := &plain{connected: make(chan struct{})}
	l, err := e.Listen("tcp", "127.0.0.1:0", func() session.Handler { return s })
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Start(); err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	exchange(t, c, 10)
	other := e.loops[slices.IndexFunc(e.loops, func(l *loop) bool { return l.Len() == 0 })]
	shared := []block{blockOf(e), blockOf(e.budget), blockOf(e.live.Load()), blockOf(l.origin.counts),
		blockOf(other), blockOf(other.eventLoop), blockOf(other.shared), blockOf(other.parts[0])}
	before := contents(shared)
	for deadline := time.Now().Add(5 * time.Second); ; { // the loops come to rest
		last := before
		time.Sleep(20 * time.Millisecond)
		if before = contents(shared); reflect.DeepEqual(last, before) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the loops were not at rest within 5 s")
		}
	}

	exchange(t, c, 1000)
	big := make([]byte, 32<<10) // in several reads and writes
	for range 100 {
		if _, err := c.Write(big); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, big); err != nil {
			t.Fatal(err)
		}
	}
	for i, b := range shared {
		for _, field := range b.changed(before[i]) {
			t.Errorf("1,100 messages have changed %s of %s, which all loops share", field, b.kind)
		}
	}

	e.dialErrors.Add(1)
	if got := shared[0].changed(before[0]); !slices.Contains(got, "dialErrors") {
		t.Errorf("a write to Engine.dialErrors was not seen; %q were", got)
	}
}

// A block is the memory of a struct.
type block struct {
	kind reflect.Type
	at   unsafe.Pointer
}

func blockOf[T any](p *T) block { return block{reflect.TypeFor[T](), unsafe.Pointer(p)} }

// words returns what is in it. A loop that is not at rest may be writing there, so the race detector must not see it.
//
//go:norace
func (b block) words() []uint64 {
	w := make([]uint64, b.kind.Size()/8)
	for i := range w {
		w[i] = *(*uint64)(unsafe.Add(b.at, 8*i))
	}
	return w
}

func contents(blocks []block) (all [][]uint64) {
	for _, b := range blocks {
		all = append(all, b.words())
	}
	return all
}

// changed returns the names of the fields that are not as they were.
func (b block) changed(before []uint64) (fields []string) {
	for i, w := range b.words() {
		if w == before[i] {
			continue
		}
		name := ""
		for f := range b.kind.NumField() {
			if field := b.kind.Field(f); field.Offset <= uintptr(8*i) {
				name = field.Name
			}
		}
		if !slices.Contains(fields, name) {
			fields = append(fields, name)
		}
	}
	return fields
}
