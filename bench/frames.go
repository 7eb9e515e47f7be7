package bench

import (
	"encoding/binary"
	"errors"
	"fmt"
	"unicode/utf8"
)

// Opcodes of frames (RFC 6455, 5.2).
const (
	opContinuation = 0x0
	opText         = 0x1
	opBinary       = 0x2
	opClose        = 0x8
	opPing         = 0x9
	opPong         = 0xa
)

const (
	finBit     = 0x80
	maskBit    = 0x80
	mostHead   = 14 // bytes of a frame before its payload, with a mask
	serverHead = 10 // and without
	controlMax = 125
)

// frames parses what a server sends: the heads of its frames, and the payload of control frames. Heads may come in pieces. A server's frames
// have no mask (RFC 6455, 5.1), and here no extension.
type frames struct {
	head [serverHead]byte
	held int // bytes of a head in parts

	inside bool  // a frame: its head has come
	left   int64 // bytes of its payload that have not come
	op     byte
	fin    bool

	begun bool // a message: its last frame has not come
	text  bool // that message, or else the last one, is text

	control []byte // payload of a control frame
}

// next parses the head of a frame, or a part of it, and returns how many bytes of b it has used up. When the head is whole, inside is true.
func (f *frames) next(b []byte) (n int, err error) {
	h, before := b, f.held
	if before > 0 {
		h = f.head[:before+copy(f.head[before:], b)]
	}
	need := 2
	if len(h) >= 2 {
		switch h[1] &^ maskBit {
		case 126:
			need = 4
		case 127:
			need = serverHead
		}
	}
	if len(h) < need {
		f.held = copy(f.head[:], h)
		return len(b), nil
	}
	f.held = 0
	return need - before, f.begin(h)
}

// begin begins the frame whose head is at the beginning of h.
func (f *frames) begin(h []byte) error {
	op := h[0] & 0x0f
	f.fin = h[0]&finBit != 0
	switch length := h[1] &^ maskBit; length {
	default:
		f.left = int64(length)
	case 126:
		f.left = int64(binary.BigEndian.Uint16(h[2:]))
		if f.left < 126 {
			return errors.New("the length of a frame is not in its shortest form")
		}
	case 127:
		f.left = int64(binary.BigEndian.Uint64(h[2:]))
		if f.left >= 0 && f.left < 1<<16 {
			return errors.New("the length of a frame is not in its shortest form")
		}
	}
	control := op >= opClose
	switch {
	case h[1]&maskBit != 0:
		return errors.New("a frame of the server has a mask")
	case h[0]&0x70 != 0:
		return errors.New("a reserved bit of a frame is set, and no extension was agreed on")
	case op > opBinary && op < opClose || op > opPong:
		return fmt.Errorf("a frame has the unknown opcode %d", op)
	case f.left < 0:
		return errors.New("the highest bit of a frame's length is set")
	case control && (!f.fin || f.left > controlMax):
		return errors.New("a control frame is in parts, or longer than 125 bytes")
	case op == opContinuation && !f.begun:
		return errors.New("a frame continues a message, and none has begun")
	case !control && op != opContinuation && f.begun:
		return errors.New("a message begins before the last frame of the one before")
	}
	f.inside, f.op = true, op
	switch {
	case control:
		f.control = f.control[:0]
	case op != opContinuation:
		f.begun, f.text = true, op == opText
	}
	return nil
}

// end ends the frame, whose payload has come.
func (f *frames) end() (message bool) {
	f.inside = false
	if f.op >= opClose || !f.fin {
		return false
	}
	f.begun = false
	return true
}

// closeNames are names of the codes of close frames that servers send (RFC 6455, 7.4.1).
var closeNames = map[uint16]string{
	1000: "normal closure", 1001: "going away", 1002: "protocol error", 1003: "unsupported data", 1007: "invalid data",
	1008: "policy violation", 1009: "message too big", 1011: "internal error", 1012: "service restart", 1013: "try again later",
}

// closeText describes a close frame of a server by its payload. code is the one to answer with.
func closeText(payload []byte) (text string, code uint16) {
	if len(payload) < 2 {
		return "the server closed the WebSocket without a code", 1000
	}
	code = binary.BigEndian.Uint16(payload)
	text = fmt.Sprintf("the server closed the WebSocket with code %d", code)
	if name := closeNames[code]; name != "" {
		text += " (" + name + ")"
	}
	if reason := payload[2:]; len(reason) > 0 && utf8.Valid(reason) {
		text += fmt.Sprintf(": %q", reason)
	}
	return text, code
}

// appendControl appends a client's control frame with a payload of 125 bytes at most.
func appendControl(b []byte, op byte, mask [4]byte, payload []byte) []byte {
	b = append(b, finBit|op, maskBit|byte(len(payload)))
	b = append(b, mask[:]...)
	for i, c := range payload {
		b = append(b, c^mask[i%4])
	}
	return b
}
