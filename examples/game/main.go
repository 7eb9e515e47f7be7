// Command game is the game server of the C# lesson: packets with numbers, a room that sends all moves of the last 50 ms to every player,
// and a swarm of dummy clients. A browser sees the room: a dot for each player.
//
//	go run ./examples/game -swarm 500 -for 60s    server and swarm in one process; open http://127.0.0.1:8081
//	go run ./examples/game -addr :7777            the server alone
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:0", "`address` to listen on for players")
	web := flag.String("web", "127.0.0.1:8081", "`address` to listen on for browsers; empty for none")
	n := flag.Int("swarm", 0, "number of dummy clients to start as well")
	every := flag.Duration("every", time.Second, "time between two moves of one dummy")
	lasting := flag.Duration("for", 10*time.Second, "how long the dummies move")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := play(ctx, *addr, *web, *n, *every, *lasting); err != nil {
		log.Fatal(err)
	}
}

func play(ctx context.Context, addr, web string, n int, every, lasting time.Duration) error {
	server, err := listen(addr, web)
	if err != nil {
		return err
	}
	r := server.room
	log.Printf("game on %s", server.players.Addr())
	if server.watchers != nil {
		log.Printf("open http://%s", server.watchers.Addr())
	}
	ctx, stop := context.WithCancel(ctx)
	ticking := make(chan struct{})
	go func() {
		defer close(ticking)
		r.run(ctx)
	}()
	if n > 0 {
		s := &swarm{}
		err = s.run(ctx, server.players.Addr().String(), n, every, lasting)
		defer func() {
			fmt.Printf("%d dummies, %d moves made, %d seen, %d out of order\n", n, s.sent.Load(), s.seen.Load(), s.lost.Load())
			fmt.Printf("%d ticks of %v; late by p50 %v, p99 %v, at most %v\n", r.ticks, tick,
				r.lateness(0.5).Round(10*time.Microsecond), r.lateness(0.99).Round(10*time.Microsecond), r.lateness(1).Round(10*time.Microsecond))
		}()
	} else {
		<-ctx.Done()
	}
	stop()
	<-ticking
	end, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if late := server.Shutdown(end); err == nil {
		err = late
	}
	return err
}
