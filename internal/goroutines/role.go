package goroutines

import (
	"runtime"
	"strings"
)

// Names are the functions on a stack that tell what a goroutine is, named as in runtime.Frame. C is the type of a kind of callback.
type Names[C comparable] struct {
	Loop   string       // the function that a loop's goroutine runs
	Worker string       // the function that a worker's goroutine runs
	Calls  map[string]C // functions that call the application's code, and for which callback
	Ours   []string     // how the names of functions begin that are not the application's; those of package runtime are not either
}

// Role is what a stack says about its goroutine.
type Role[C comparable] struct {
	Loop, Worker bool
	Calls        bool    // it runs a callback
	Callback     C       // the innermost one that it runs
	From         uintptr // where the application's code called ours, 0 if it did not
}

// Own returns the role of the goroutine that calls. It takes some microseconds.
func (n *Names[C]) Own() Role[C] {
	const skip = 2 // runtime.Callers and Own
	var few [64]uintptr
	stack := few[:]
	size := runtime.Callers(skip, stack)
	for size == len(stack) {
		stack = make([]uintptr, 4*len(stack))
		size = runtime.Callers(skip, stack)
	}
	return roleOf(stack[:size], n.at)
}

// function is what one function on a stack says about the goroutine.
type function[C comparable] struct {
	loop, worker bool
	calls        bool
	callback     C
	ours         bool
}

// at returns what is at a return address.
func (n *Names[C]) at(pc uintptr) (f function[C]) {
	fn := runtime.FuncForPC(pc - 1)
	if fn == nil {
		return f
	}
	name := fn.Name()
	f.ours = strings.HasPrefix(name, "runtime.")
	for _, ours := range n.Ours {
		if strings.HasPrefix(name, ours) {
			f.ours = true
		}
	}
	f.loop, f.worker = name == n.Loop, name == n.Worker
	f.callback, f.calls = n.Calls[name]
	return f
}

// remember returns at with a memory: there are few different return addresses in many stacks.
func (n *Names[C]) remember() func(pc uintptr) function[C] {
	known := make(map[uintptr]function[C])
	return func(pc uintptr) function[C] {
		f, ok := known[pc]
		if !ok {
			f = n.at(pc)
			known[pc] = f
		}
		return f
	}
}

// roleOf reads a stack, from the innermost call outwards.
func roleOf[C comparable](stack []uintptr, at func(pc uintptr) function[C]) (r Role[C]) {
	for _, pc := range stack {
		f := at(pc)
		if !f.ours && r.From == 0 && !r.Calls {
			r.From = pc
		}
		if f.calls && !r.Calls {
			r.Calls, r.Callback = true, f.callback
		}
		r.Loop, r.Worker = r.Loop || f.loop, r.Worker || f.worker
	}
	return r
}
