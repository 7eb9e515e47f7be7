package goroutines

import (
	"strings"
	"testing"

	"github.com/servercore-go/servercore/internal/testkit"
)

// Each goroutine has its number, and its stack is found by it.
func TestStackByNumber(t *testing.T) {
	ids, gate := make(chan string), make(chan struct{})
	defer close(gate)
	go func() {
		ids <- ID()
		testkit.Parked(3, gate)
	}()
	id := <-ids
	if own := ID(); own == "" || id == "" || own == id {
		t.Fatalf("two goroutines have the numbers %q and %q", own, id)
	}
	if stack := stackOf(id); !strings.HasPrefix(stack, "goroutine "+id+" [") || !strings.Contains(stack, "TestStackByNumber") || strings.Contains(stack, "tRunner(") {
		t.Errorf("the stack of %s:\n%s", id, stack)
	}
	if stack := stackOf(ID()); !strings.Contains(stack, "testing.tRunner(") {
		t.Errorf("the stack of the test:\n%s", stack)
	}
	for id, want := range map[string]string{"": "none: the loop does not run", "0": "none: it is not among the first "} {
		if got := stackOf(id); !strings.HasPrefix(got, want) {
			t.Errorf("of goroutine %q: %s", id, got)
		}
	}
	if got := Position(0); got != "" {
		t.Errorf("nowhere is %q", got)
	}
}
