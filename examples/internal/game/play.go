package game

import (
	"context"
	"fmt"
	"log"
	"time"
)

// Play is a server, and a swarm of n dummies if n is more than 0, which moves for a time.
func Play(ctx context.Context, addr, web string, n int, every, lasting time.Duration) error {
	server, err := Listen(addr, web, 0, here())
	if err != nil {
		return err
	}
	r := server.room
	log.Printf("game on %s", server.Players.Addr())
	if server.Watchers != nil {
		log.Printf("open http://%s", server.Watchers.Addr())
	}
	ctx, stop := context.WithCancel(ctx)
	ticking := make(chan struct{})
	go func() {
		defer close(ticking)
		r.run(ctx)
	}()
	if n > 0 {
		s := &Swarm{}
		err = s.Run(ctx, []string{server.Players.Addr().String()}, n, every, lasting)
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
