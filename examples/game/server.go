package main

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

// room is the GameRoom of the lesson: players send moves, and at each tick every player gets one packet with all moves since the tick
// before.
type room struct {
	players session.Group

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
		r.players.Broadcast(append(p, part...))
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

func (p *player) OnConnected(net.Addr) {
	b := binary.LittleEndian.AppendUint16(nil, sEnter)
	_ = p.Send(binary.LittleEndian.AppendUint64(b, p.ID()))
	p.room.players.Join(p) // the session leaves the group when it ends
}

// OnRecv gets one whole packet at a time. An invalid packet ends the session.
func (p *player) OnRecv(b []byte) {
	if len(b) != 2+moveSize-8 || binary.LittleEndian.Uint16(b) != cMove {
		p.Abort()
		return
	}
	m := readMove(append(binary.LittleEndian.AppendUint64(nil, p.ID()), b[2:]...))
	p.room.moved(m)
}

// server is an engine with two listeners and a room.
type server struct {
	*engine.Engine
	room     *room
	players  *engine.Listener
	watchers *engine.Listener // nil for none
}

// listen starts a server for players at addr, and for browsers at web, unless that is "".
func listen(addr, web string) (*server, error) {
	e, err := engine.New(engine.Options{})
	if err != nil {
		return nil, err
	}
	r := &room{}
	r.players.EndSlow = true // a player that misses moves must connect again
	s := &server{Engine: e, room: r}
	if s.players, err = e.Listen("tcp", addr, func() session.Handler { return &player{room: r} }, engine.Framed(packets)); err != nil {
		return nil, err
	}
	if web != "" {
		if s.watchers, err = e.Listen("tcp", web, func() session.Handler { return &watcher{room: r} }, webOption()); err != nil {
			return nil, err
		}
	}
	return s, e.Start()
}
