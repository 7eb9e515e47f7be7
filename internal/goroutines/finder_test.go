package goroutines

import (
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/servercore-go/servercore/internal/testkit"
)

// Profiles take a tenth of the time at most; a stall that was seen before the last one was taken is in it.
func TestProfilesTakeATenth(t *testing.T) {
	testkit.Crowd(t, 2*fewGoroutines)
	f := Finder[callback]{Names: &names}
	now := time.Second
	clock := func() time.Duration { now += 10 * time.Millisecond; return now } // what a profile costs
	running := true
	take := func(since time.Duration) string {
		stack, spent := f.Find(Target[callback]{Callback: onRecv, Since: since, Running: func() bool { return running }}, clock)
		if profiled := f.taken == now-f.cost; profiled != (spent > 0) || spent > 0 && spent != f.cost {
			t.Errorf("at %v: a profile at %v took %v, and Find says %v", now, f.taken, f.cost, spent)
		}
		return stack
	}
	const notFound, tooSoon = "none: the callback is more than", "none: the last one"
	want := func(got, beginning string) {
		t.Helper()
		if !strings.HasPrefix(got, beginning) {
			t.Errorf("at %v: %q, want %q", now, got, beginning)
		}
	}
	want(take(now), notFound) // no loop runs
	taken := f.taken
	want(take(taken-1), notFound) // in that profile
	if f.taken != taken {
		t.Error("another profile was taken")
	}
	now = taken + 8*f.cost
	want(take(now), tooSoon)
	now = taken + profileShare*f.cost
	want(take(now), notFound)
	if f.taken == taken {
		t.Error("no other profile was taken")
	}
	now, f.most = now+time.Hour, 2*fewGoroutines-1 // and then there are too many
	want(take(now), "none: the process has")
	f.most, running = 0, false
	now += time.Hour
	if got := take(now); got != "" {
		t.Errorf("%q of a call that is over", got)
	}
}

// A line tells of the loops that run its kind of callback, of three at most.
func TestPlacesOfACallback(t *testing.T) {
	var f Finder[callback]
	at := func(c callback) {
		p := place[callback]{callback: c}
		runtime.Callers(0, p.stack.Stack0[:]) // each call of at is another place
		f.places = append(f.places, p)
	}
	at(onRecv)
	at(post)
	at(post)
	if text := f.text(onRecv); strings.Count(text, "TestPlacesOfACallback(") != 1 || !strings.HasPrefix(text, "a profile has 1 for loops in OnRecv:") {
		t.Errorf("of OnRecv:\n%s", text)
	}
	if text := f.text(post); strings.Count(text, "TestPlacesOfACallback(") != 2 {
		t.Errorf("of Post:\n%s", text)
	}
	for range 5 {
		at(post)
	}
	if text := f.text(post); strings.Count(text, "TestPlacesOfACallback(") != 3 {
		t.Errorf("of Post, and more of them:\n%s", text)
	}
	if text := f.text(onSend); !strings.HasPrefix(text, "none: ") {
		t.Errorf("of OnSend:\n%s", text)
	}
}
