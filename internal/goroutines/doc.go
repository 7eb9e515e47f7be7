// Package goroutines tells what a goroutine is and where it is, from stacks alone: nothing is recorded while the goroutines run, so it costs
// nothing until somebody asks. It knows two kinds, loops and workers, by the functions they run, and the functions through which
// they call the application's code (callbacks).
//
//   - stack.go: the number of the goroutine that calls, the stack of another one, stacks as text.
//   - role.go: Names and Role: what a stack says about its goroutine.
//   - finder.go: Finder: the stack of a goroutine that is held in a callback, in bounded time, among many goroutines.
//
// docs/decisions/0012 has the measurements.
package goroutines
