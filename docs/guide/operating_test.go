package guide_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/servercore-go/servercore/engine"
	"github.com/servercore-go/servercore/session"
)

var discard = slog.New(slog.DiscardHandler)

// healthy answers a health check: every event loop has to answer within a second.
func healthy(e *engine.Engine) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	return e.Ping(ctx)
}

func Example_handOn() {
	newPlayer := func() session.Handler { return new(counter) }
	before := value(engine.New(engine.Options{}))
	l := value(before.Listen("tcp", "127.0.0.1:0", newPlayer))
	must(before.Start())
	defer before.Close()

	socket := value(l.File()) // in the old process; the new one inherits it as a descriptor
	after := value(engine.New(engine.Options{}))
	value(after.Listen("tcp", "", newPlayer, engine.From(socket))) // in the new process
	must(after.Start())                                            // both accept now: nobody is refused
	defer after.Close()
	socket.Close()
	l.Close() // the old one stops accepting; its sessions go on

	fmt.Println(ask(l.Addr(), "hello"), healthy(after))
	// Output: 1: hello <nil>
}

func Example_logger() {
	e := value(engine.New(engine.Options{
		Logger: slog.New(slog.NewJSONHandler(os.Stderr, nil)).With("service", "game"),
	}))
	must(e.Start())
	stop(e)
	fmt.Println(e.Stats().LogDropped)
	// Output: 0
}
