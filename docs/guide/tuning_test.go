package guide_test

import (
	"fmt"
	"time"

	"github.com/servercore-go/servercore/engine"
	"github.com/servercore-go/servercore/session"
)

// report is a line for a log or a metric: rates are differences of counters.
func report(before, now engine.Stats, passed time.Duration) string {
	in := now.Total.MessagesIn - before.Total.MessagesIn
	gathered := float64(now.Total.MessagesOut-before.Total.MessagesOut) / float64(max(now.Total.Writes-before.Total.Writes, 1))
	return fmt.Sprintf("%.0f messages in a second, %.1f messages in a write, %d refused",
		float64(in)/passed.Seconds(), gathered, now.Refused.Sum()-before.Refused.Sum())
}

func Example_stats() {
	e := value(engine.New(engine.Options{}))
	l := value(e.Listen("tcp", "127.0.0.1:0", func() session.Handler { return new(counter) }))
	must(e.Start())

	before := e.Stats()
	ask(l.Addr(), "hello")
	stop(e)
	fmt.Println(report(before, e.Stats(), time.Second))
	// Output: 1 messages in a second, 1.0 messages in a write, 0 refused
}
