package game

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/servercore-go/servercore/engine"
	"github.com/servercore-go/servercore/session"
)

// dummy is a client that moves at random and checks that it sees every move of all others. Its fields belong to its loop.
type dummy struct {
	session.Session
	swarm *Swarm
	id    uint64
	seen  map[uint64]uint32 // the last move of each player
	ticks map[uint64]uint32 // the last tick of each node

	// Of the swarm's goroutine: its own moves, where it is, and where it is going, in radians.
	count         uint32
	x, y, heading float64
}

// Swarm is a number of dummies in one process, on the loops of their own engine.
type Swarm struct {
	sent, seen atomic.Int64
	lost       atomic.Int64 // gaps in the moves of a player, and ticks out of order
	ready      sync.WaitGroup

	Ready func(ctx context.Context) error // called when all dummies have entered, before they move; may be nil
}

func (d *dummy) OnRecv(b []byte) {
	switch binary.LittleEndian.Uint16(b) {
	case sEnter:
		d.id = binary.LittleEndian.Uint64(b[2:])
		d.swarm.ready.Done()
	case sMoves:
		node := readMove(b[6:]).id >> nodeShift
		if tick := binary.LittleEndian.Uint32(b[2:]); tick < d.ticks[node] {
			d.swarm.lost.Add(1)
		} else {
			d.ticks[node] = tick
		}
		for b = b[6:]; len(b) >= moveSize; b = b[moveSize:] {
			m := readMove(b)
			if last, known := d.seen[m.id]; known && m.count != last+1 {
				d.swarm.lost.Add(1)
			}
			d.seen[m.id] = m.count
			d.swarm.seen.Add(1)
		}
	}
}

// The room is a square of worldSize by worldSize. A dummy walks step at a time, and turns a little before each step.
const worldSize, step = 100, 3

func (d *dummy) move() error {
	d.count++
	d.heading += rand.Float64() - 0.5
	x, y := d.x+step*math.Cos(d.heading), d.y+step*math.Sin(d.heading)
	if d.count == 1 { // somewhere
		x, y, d.heading = rand.Float64()*worldSize, rand.Float64()*worldSize, 2*math.Pi*rand.Float64()
	}
	if d.x, d.y = min(max(x, 0), worldSize), min(max(y, 0), worldSize); d.x != x || d.y != y { // at a wall
		d.heading = math.Atan2(worldSize/2-y, worldSize/2-x)
	}
	b := binary.LittleEndian.AppendUint16(nil, cMove)
	b = appendMove(b, move{count: d.count, x: float32(d.x), y: float32(d.y)})
	b = append(b[:2], b[2+8:]...) // the server adds the id itself
	d.swarm.sent.Add(1)
	return d.Send(b)
}

// Run makes n dummies, spread over the addresses, move once per interval for a time, and returns what went wrong.
func (s *Swarm) Run(ctx context.Context, addrs []string, n int, every, lasting time.Duration) error {
	e, err := engine.New(engine.Options{})
	if err != nil {
		return err
	}
	if err := e.Start(); err != nil { // no listener: the engine only dials
		return err
	}
	defer e.Close()
	dummies := make([]*dummy, n)
	s.ready.Add(n)
	for i := range dummies {
		h, err := e.Dial(ctx, "tcp", addrs[i%len(addrs)], func() session.Handler {
			return &dummy{swarm: s, seen: make(map[uint64]uint32), ticks: make(map[uint64]uint32)}
		}, engine.Framed(packets))
		if err != nil {
			return fmt.Errorf("dummy %d of %d: %w", i+1, n, err)
		}
		dummies[i] = h.(*dummy)
	}
	s.ready.Wait()
	if s.Ready != nil {
		if err := s.Ready(ctx); err != nil {
			return err
		}
	}

	// One goroutine moves all dummies, evenly spread over an interval.
	begin := time.Now()
	for i := 0; time.Since(begin) < lasting && ctx.Err() == nil; i++ {
		if wait := time.Until(begin.Add(time.Duration(i) * every / time.Duration(n))); wait > time.Millisecond {
			time.Sleep(wait)
		}
		if err := dummies[i%n].move(); err != nil {
			return fmt.Errorf("a dummy was thrown out: %w (%v)", err, dummies[i%n].Err())
		}
	}
	// The last moves arrive a tick or two later; wait until every dummy has seen every move.
	want := s.sent.Load() * int64(n)
	for deadline := time.Now().Add(5 * time.Second); s.seen.Load() < want && time.Now().Before(deadline); {
		time.Sleep(tick)
	}
	if lost, missing := s.lost.Load(), want-s.seen.Load(); lost > 0 || missing != 0 {
		return fmt.Errorf("%d packets out of order, %d of %d moves not seen", lost, missing, want)
	}
	return nil
}
