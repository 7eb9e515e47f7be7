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

// room is the lesson's GameRoom: players report moves, and every tick each of them gets one packet with all that was
// moved since the last one.
type room struct {
	players session.Group

	mu    sync.Mutex
	moves []byte // since the last tick, as they go out

	ticks uint32
	late  []time.Duration // how much later than planned each tick was
}

func (r *room) moved(m move) {
	r.mu.Lock()
	r.moves = appendMove(r.moves, m)
	r.mu.Unlock()
}

// run ticks until ctx ends. A tick that comes late does not delay the ones after it.
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

// perPacket is how many moves fit into one packet of the framer.
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

// lateness returns the quantile q of how late the ticks were. After run.
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
	p.room.players.Join(p) // leaves by itself
}

// OnRecv gets whole packets. What no client of ours would send ends the session.
func (p *player) OnRecv(b []byte) {
	if len(b) != 2+moveSize-8 || binary.LittleEndian.Uint16(b) != cMove {
		p.Abort()
		return
	}
	m := readMove(append(binary.LittleEndian.AppendUint64(nil, p.ID()), b[2:]...))
	p.room.moved(m)
}

// listen starts the server.
func listen(addr string) (*engine.Engine, *room, net.Addr, error) {
	e, err := engine.New(engine.Options{})
	if err != nil {
		return nil, nil, nil, err
	}
	r := &room{}
	r.players.EndSlow = true // a player with a hole in the world is better off connecting again
	l, err := e.Listen("tcp", addr, func() session.Handler { return &player{room: r} }, engine.Framed(packets))
	if err != nil {
		return nil, nil, nil, err
	}
	if err := e.Start(); err != nil {
		return nil, nil, nil, err
	}
	return e, r, l.Addr(), nil
}
