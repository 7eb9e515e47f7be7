package guide_test

import (
	"fmt"
	"time"

	"github.com/servercore-go/servercore/engine"
	"github.com/servercore-go/servercore/session"
)

// account asks a database for each request. Its callbacks run on workers, so they may wait.
type account struct{ session.Session }

func (a *account) OnRecv(request []byte) {
	balance := queryDatabase(string(request))
	a.Send(fmt.Appendln(nil, balance))
}

func Example_offload() {
	e := value(engine.New(engine.Options{}))
	l := value(e.Listen("tcp", "127.0.0.1:0", func() session.Handler { return new(account) }, engine.Offload(64)))
	must(e.Start())
	defer e.Close()

	fmt.Println(ask(l.Addr(), "Kim"))
	// Output: 100
}

// queryDatabase stands for what takes its time.
func queryDatabase(string) int {
	time.Sleep(10 * time.Millisecond)
	return 100
}

func Example_timings() {
	e := value(engine.New(engine.Options{StallWarning: 50 * time.Millisecond}))
	l := value(e.Listen("tcp", "127.0.0.1:0", func() session.Handler { return new(counter) }))
	must(e.Start())
	defer e.Close()

	ask(l.Addr(), "hello")
	for _, t := range e.Timings() {
		if t.Callback == "OnRecv" {
			fmt.Println(t.Callback, "is fast:", t.P99 < 50*time.Millisecond)
		}
	}
	fmt.Println(e.Stats().Total.Stalls, "callbacks held a loop for longer than StallWarning")
	// Output:
	// OnRecv is fast: true
	// 0 callbacks held a loop for longer than StallWarning
}
