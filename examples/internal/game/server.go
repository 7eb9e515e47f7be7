// Package game is the game of examples/game: packets with numbers, a room that sends all moves of the last 50 ms to every player, and a swarm
// of dummy clients. Its players may be on several nodes: examples/cluster/game.
//
//	server.go  the room, its ticks, players
//	packet.go  what a move is on the wire
//	swarm.go   dummy clients, which check what they see
//	play.go    both in one process
//	web.go     the page
package game

import (
	"context"
	"encoding/binary"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/servercore-go/servercore/engine"
	"github.com/servercore-go/servercore/frame"
	"github.com/servercore-go/servercore/session"
)

const tick = 50 * time.Millisecond

var packets = frame.ServerCore{}

// Players are who gets the moves: those of a session.Group, or of a room on several nodes.
type Players struct {
	Join      func(session.Handler)
	Broadcast func(p []byte)
}

// here returns the players of one process. One that misses moves must connect again.
func here() Players {
	g := &session.Group{EndSlow: true}
	return Players{g.Join, func(p []byte) { g.Broadcast(p) }}
}

// nodeShift is where a player's id has the number of its node. Below is the session's ID.
const nodeShift = 48

// room is the GameRoom of the lesson: players send moves, and at each tick every player gets one packet with all moves since the tick
// before.
type room struct {
	Players
	node uint64

	mu    sync.Mutex
	moves []byte // encoded moves since the last tick

	ticks uint32
	late  []time.Duration // delay of each tick
}

func (r *room) moved(m move) {
	r.mu.Lock()
	r.moves = appendMove(r.moves, m)
	r.mu.Unlock()
}

// run ticks until ctx ends. A late tick does not delay the ones after it.
func (r *room) run(ctx context.Context) {
	for next := time.Now().Add(tick); ; next = next.Add(tick) {
		select {
		case <-time.After(time.Until(next)):
		case <-ctx.Done():
			return
		}
		r.late = append(r.late, max(time.Since(next), 0))
		r.flush()
	}
}

// perPacket is the number of moves that fit into one packet of the framer.
const perPacket = (65533 - 6) / moveSize

func (r *room) flush() {
	r.ticks++
	r.mu.Lock()
	moves := r.moves
	r.moves = nil
	r.mu.Unlock()
	for part := range slices.Chunk(moves, perPacket*moveSize) {
		p := binary.LittleEndian.AppendUint16(nil, sMoves)
		p = binary.LittleEndian.AppendUint32(p, r.ticks)
		r.Broadcast(append(p, part...))
	}
}

// lateness returns the quantile q of the ticks' delays. It must be called after run.
func (r *room) lateness(q float64) time.Duration {
	if len(r.late) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(r.late))
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}

// player is one connection.
type player struct {
	session.Session
	room *room
}

// id is the player's number, on all nodes.
func (p *player) id() uint64 { return p.room.node<<nodeShift | p.ID() }

func (p *player) OnConnected(net.Addr) {
	b := binary.LittleEndian.AppendUint16(nil, sEnter)
	_ = p.Send(binary.LittleEndian.AppendUint64(b, p.id()))
	p.room.Join(p) // the session leaves the group when it ends
}

// OnRecv gets one whole packet at a time. An invalid packet ends the session.
func (p *player) OnRecv(b []byte) {
	if len(b) != 2+moveSize-8 || binary.LittleEndian.Uint16(b) != cMove {
		p.Abort()
		return
	}
	m := readMove(append(binary.LittleEndian.AppendUint64(nil, p.id()), b[2:]...))
	p.room.moved(m)
}

// Server is an engine with two listeners and a room.
type Server struct {
	*engine.Engine
	room     *room
	Players  *engine.Listener
	Watchers *engine.Listener // nil for none
}

// Listen starts a server for players at addr, and for browsers at web, unless that is "". The number of the node is 0 if there is one.
func Listen(addr, web string, node uint64, all Players) (*Server, error) {
	e, err := engine.New(engine.Options{})
	if err != nil {
		return nil, err
	}
	r := &room{Players: all, node: node}
	s := &Server{Engine: e, room: r}
	if s.Players, err = e.Listen("tcp", addr, func() session.Handler { return &player{room: r} }, engine.Framed(packets)); err != nil {
		return nil, err
	}
	if web != "" {
		if s.Watchers, err = e.Listen("tcp", web, func() session.Handler { return &watcher{room: r} }, webOption()); err != nil {
			return nil, err
		}
	}
	return s, e.Start()
}

// Tick has the room tick until ctx ends.
func (s *Server) Tick(ctx context.Context) { s.room.run(ctx) }
