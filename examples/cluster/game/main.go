// Command game is the game of examples/game with its players on three nodes: dummies that are spread over them are in one room, and each
// checks that it sees every move of all others, once and in order.
//
//	go run ./examples/cluster/game
//
// The nodes are in one process, and connect to each other as three processes would. Each sends the moves of its own players to all once in a
// tick: that crosses the bus once for each other node.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"sync"
	"time"

	"github.com/servercore-go/servercore/cluster"
	"github.com/servercore-go/servercore/examples/internal/game"
)

func main() {
	n := flag.Int("swarm", 500, "number of dummy clients")
	lasting := flag.Duration("for", 10*time.Second, "how long they move, once in a second each")
	flag.Parse()
	if err := play(context.Background(), *n, time.Second, *lasting); err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%d dummies on 3 nodes: each has seen all moves of all, once and in order\n", *n)
}

func play(ctx context.Context, n int, every, lasting time.Duration) error {
	ticking, stop := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer stop()
	var rooms []*cluster.Room
	var addrs, routes []string
	for i := range 3 {
		node, err := cluster.Open(cluster.Options{Embedded: &cluster.Embedded{Listen: "127.0.0.1:0", Routes: routes}})
		if err != nil {
			return err
		}
		defer node.Close()
		routes = append(routes, node.RouteAddr().String())
		room := node.Room("world")
		room.Local().EndSlow = true // a player that misses moves must connect again
		s, err := game.Listen("127.0.0.1:0", "", uint64(i+1), game.Players{
			Join:      room.Join,
			Broadcast: func(p []byte) { _ = room.Broadcast(p) }, // what is lost shows in what the dummies see
		})
		if err != nil {
			return err
		}
		defer func() { _ = s.Close(); <-s.Done() }()
		running.Go(func() { s.Tick(ticking) })
		rooms, addrs = append(rooms, room), append(addrs, s.Players.Addr().String())
	}
	// A node that has all players among the members reaches them.
	s := game.Swarm{Ready: func(ctx context.Context) error {
		for _, room := range rooms {
			for ; ; time.Sleep(10 * time.Millisecond) {
				have, err := room.Len(ctx)
				if err != nil {
					return err
				}
				if have == n {
					break
				}
			}
		}
		return nil
	}}
	return s.Run(ctx, addrs, n, every, lasting)
}
