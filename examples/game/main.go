// Command game is the game server of the C# lesson: packets with numbers, a room that sends all moves of the last 50 ms to every player,
// and a swarm of dummy clients. A browser sees the room: a dot for each player.
//
//	go run ./examples/game -swarm 500 -for 60s    server and swarm in one process; open http://127.0.0.1:8081
//	go run ./examples/game -addr :7777            the server alone
//
// The game itself is examples/internal/game. examples/cluster/game has its players on three nodes.
package main

import (
	"context"
	"flag"
	"log"
	"os/signal"
	"syscall"
	"time"

	"github.com/servercore-go/servercore/examples/internal/game"
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
	if err := game.Play(ctx, *addr, *web, *n, *every, *lasting); err != nil {
		log.Fatal(err)
	}
}
