package guide_test

import (
	"fmt"
	"io"
	"net"
	"time"

	"github.com/servercore-go/servercore/engine"
	"github.com/servercore-go/servercore/session"
)

// GameSession is the lesson's: it greets, and disconnects a moment later.
type GameSession struct{ session.Session }

func (s *GameSession) OnConnected(remote net.Addr) {
	s.Send([]byte("Welcome to MMORPG Server!"))
	s.AfterFunc(50*time.Millisecond, s.Disconnect) // not Thread.Sleep: it would hold all sessions of this loop
}

func (s *GameSession) OnRecv(data []byte) { fmt.Printf("[From Client] %s\n", data) }

func (s *GameSession) OnSend(n int) { fmt.Println("Transferred bytes:", n) }

func (s *GameSession) OnDisconnected(remote net.Addr) { fmt.Println("OnDisconnected:", s.Err()) }

func Example_lesson() {
	e := value(engine.New(engine.Options{}))
	l := value(e.Listen("tcp", "127.0.0.1:0", func() session.Handler { return new(GameSession) }))
	must(e.Start())

	c := value(net.Dial("tcp", l.Addr().String()))
	fmt.Println(string(value(io.ReadAll(c))))
	c.Close()
	stop(e)
	// Unordered output:
	// Transferred bytes: 25
	// Welcome to MMORPG Server!
	// OnDisconnected: session: disconnected
}

// Room is the lesson's GameRoom: its state belongs to one goroutine, and others push jobs to it.
type Room struct {
	members session.Group
	jobs    chan func()
}

func (r *Room) Push(job func()) { r.jobs <- job } // not from a callback if it could wait: give jobs a buffer, or use Offload

// Run does the jobs, and every tick what is due. It returns when quit is closed.
func (r *Room) Run(quit <-chan struct{}, tick time.Duration, flush func()) {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for {
		select {
		case job := <-r.jobs:
			job()
		case <-ticker.C:
			flush()
		case <-quit:
			return
		}
	}
}

func Example_jobQueue() {
	r := &Room{jobs: make(chan func(), 100)}
	quit := make(chan struct{})
	go r.Run(quit, time.Hour, func() { r.members.Broadcast([]byte("tick")) })
	moves := 0 // no lock: only jobs change it
	for range 10 {
		r.Push(func() { moves++ })
	}
	r.Push(func() { fmt.Println(moves, "moves"); close(quit) })
	<-quit
	// Output: 10 moves
}
