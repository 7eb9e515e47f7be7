package game

import (
	"encoding/binary"
	"math"
)

// The payload of frame.ServerCore is a packet: its number, then its fields, all little-endian, as in the lesson.
const (
	cMove  uint16 = iota + 1 // client: count u32, x f32, y f32
	sEnter                   // server: id u64 of the player that receives it
	sMoves                   // server: tick u32, then for each move: id u64, count u32, x f32, y f32
)

// move is one move of a player. count numbers the player's moves, so that other players notice a missing one.
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
