package goroutines

import (
	"reflect"
	"runtime"
	"strings"
	"testing"
)

type callback string

const onRecv, onSend, post callback = "OnRecv", "OnSend", "Post"

var names = func() Names[callback] {
	of := reflect.TypeFor[Names[callback]]().PkgPath() + ".our"
	return Names[callback]{
		Loop:   of + "Loop",
		Worker: of + "Worker",
		Calls:  map[string]callback{of + "CallRecv": onRecv, of + "CallPost": post},
		Ours:   []string{of},
	}
}()

//go:noinline
func ourLoop(f func()) { f() }

//go:noinline
func ourWorker(f func()) { f() }

//go:noinline
func ourCallRecv(f func()) { f() }

//go:noinline
func ourCallPost(f func()) { f() }

// ourMethod is what the application calls.
//
//go:noinline
func ourMethod(into *Role[callback]) { *into = names.Own() }

//go:noinline
func application(f func()) { f() }

// Own tells loops from workers and others, the innermost callback, and where the application has called.
func TestOwn(t *testing.T) {
	var got Role[callback]
	ask := func() { application(func() { ourMethod(&got) }) }
	for name, tt := range map[string]struct {
		run  func()
		want Role[callback]
	}{
		"another goroutine":      {ask, Role[callback]{}},
		"a loop in no callback":  {func() { ourLoop(ask) }, Role[callback]{Loop: true}},
		"a loop":                 {func() { ourLoop(func() { ourCallRecv(ask) }) }, Role[callback]{Loop: true, Calls: true, Callback: onRecv}},
		"a worker":               {func() { ourWorker(func() { ourCallPost(ask) }) }, Role[callback]{Worker: true, Calls: true, Callback: post}},
		"a callback in another":  {func() { ourCallPost(func() { ourCallRecv(ask) }) }, Role[callback]{Calls: true, Callback: onRecv}},
		"a loop, and very deep":  {func() { ourLoop(func() { ourCallRecv(func() { deep(500, ask) }) }) }, Role[callback]{Loop: true, Calls: true, Callback: onRecv}},
		"a loop that calls ours": {func() { ourLoop(func() { ourCallRecv(func() { ourMethod(&got) }) }) }, Role[callback]{Loop: true, Calls: true, Callback: onRecv}},
	} {
		got = Role[callback]{}
		tt.run()
		from := Position(got.From)
		got.From = 0
		if got != tt.want {
			t.Errorf("%s: %+v, want %+v", name, got, tt.want)
		}
		if !strings.HasPrefix(from, "in "+reflect.TypeFor[callback]().PkgPath()+".TestOwn.") || !strings.Contains(from, " at role_test.go:") {
			t.Errorf("%s: called from %q", name, from)
		}
	}
}

//go:noinline
func deep(depth int, f func()) {
	if depth == 0 {
		f()
		return
	}
	deep(depth-1, f)
}

// The memory of return addresses says what the look-up says.
func TestRemember(t *testing.T) {
	stack := make([]uintptr, 100)
	ourLoop(func() { ourCallRecv(func() { stack = stack[:runtime.Callers(0, stack)] }) })
	at := names.remember()
	for range 2 {
		if got, want := roleOf(stack, at), roleOf(stack, names.at); got != want || !got.Loop || got.Callback != onRecv {
			t.Errorf("%+v, want %+v", got, want)
		}
	}
}
