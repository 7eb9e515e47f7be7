// Package wall is the wall clock of a node: what its claims are stamped with. Tests set it wrong.
package wall

import (
	"sync/atomic"
	"time"
)

var shift atomic.Int64 // nanoseconds

// Milli returns the time of day in milliseconds since 1970, as this process has it.
func Milli() uint64 { return uint64(time.Now().Add(time.Duration(shift.Load())).UnixMilli()) }

// Shift makes the clock of this process wrong by d. It is for tests. Any goroutine may call it.
func Shift(d time.Duration) { shift.Store(int64(d)) }
