package main

import (
	"encoding/binary"
	"math"
)

// A packet is what frame.ServerCore carries: a number that says what it is, then its fields, all little-endian, as in
// the lesson.
const (
	cMove  uint16 = iota + 1 // client: count u32, x f32, y f32
	sEnter                   // server: id u64 of the one it tells
	sMoves                   // server: tick u32, then for each move: id u64, count u32, x f32, y f32
)

// move is what one player did. count numbers a player's moves, so that whoever sees them can tell that none is missing.
type move struct {
	id    uint64
	count uint32
	x, y  float32
}

const moveSize = 8 + 4 + 4 + 4

func appendMove(b []byte, m move) []byte {
	b = binary.LittleEndian.AppendUint64(b, m.id)
	b = binary.LittleEndian.AppendUint32(b, m.count)
	b = binary.LittleEndian.AppendUint32(b, math.Float32bits(m.x))
	return binary.LittleEndian.AppendUint32(b, math.Float32bits(m.y))
}

func readMove(b []byte) move {
	return move{
		id:    binary.LittleEndian.Uint64(b),
		count: binary.LittleEndian.Uint32(b[8:]),
		x:     math.Float32frombits(binary.LittleEndian.Uint32(b[12:])),
		y:     math.Float32frombits(binary.LittleEndian.Uint32(b[16:])),
	}
}
