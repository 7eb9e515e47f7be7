package main

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
)

// Limits of a command. SendLimit has room for an answer of that size above PauseAbove.
const (
	maxArgs    = 1024
	maxCommand = 512 << 10 // bytes of all arguments
	maxLine    = 64 << 10  // bytes of a command as a line
	maxNumber  = 32        // bytes of the line with a number
)

// elements is a frame.Framer and a frame.Resumer. It splits the stream into the elements of commands.
//
//	*2\r\n  $3\r\nGET\r\n  $1\r\nk\r\n    an array, and the strings that it announces
//	PING\r\n                              a line, as people type it
//
// A framer keeps no state. If it split off whole commands, it would parse the first string again with every piece that arrives. Here the
// session keeps the state, in command, so each byte is parsed once.
type elements struct{}

// Split finds the first element. Bytes that are not an element are a packet too, so that OnRecv can send an error before it disconnects.
func (e elements) Split(data []byte) (packet []byte, n int, err error) { return e.SplitFrom(data, 0) }

// SplitFrom is Split if the first scanned bytes had no whole element.
func (elements) SplitFrom(data []byte, scanned int) (packet []byte, n int, err error) {
	if len(data) == 0 {
		return nil, 0, nil
	}
	n, bad := element(data, scanned)
	if bad != nil {
		n = len(data)
	}
	return data[:n:n], n, nil
}

// Append leaves answers unchanged.
func (elements) Append(dst, payload []byte) ([]byte, error) { return append(dst, payload...), nil }

// element returns the length of the first element, 0 if it is not complete.
func element(data []byte, scanned int) (n int, err error) {
	most := maxLine
	switch data[0] {
	case '*', '$':
		most, scanned = maxNumber, 0
	}
	window := data[:min(len(data), most)]
	n = min(scanned, len(window))
	end := bytes.IndexByte(window[n:], '\n')
	switch {
	case end >= 0:
		n += end + 1
	case len(window) == most:
		return 0, fmt.Errorf("no end of line in %d bytes", most)
	default:
		return 0, nil
	}
	if data[0] != '$' {
		return n, nil
	}
	size, err := number(data[:n], maxCommand)
	total := n + size + len("\r\n")
	switch {
	case err != nil:
		return 0, err
	case len(data) < total:
		return 0, nil
	case string(data[n+size:total]) != "\r\n":
		return 0, errors.New("a string does not end where it should")
	}
	return total, nil
}

// number parses the number after the first character of a line.
func number(line []byte, most int) (int, error) {
	text := bytes.TrimSuffix(bytes.TrimSuffix(line[1:], []byte("\n")), []byte("\r"))
	value, err := strconv.Atoi(string(text))
	if err != nil || value < 0 || value > most {
		return 0, fmt.Errorf("expected a number from 0 to %d, got %.20q", most, text)
	}
	return value, nil
}

// command collects the elements of one command.
type command struct {
	args [][]byte
	left int // strings that have not arrived
	size int // bytes of args
}

// add adds an element. If it completes a command, add returns the command's arguments, which belong to the caller; otherwise nil.
func (c *command) add(packet []byte) (args [][]byte, err error) {
	if n, err := element(packet, 0); err != nil {
		return nil, err
	} else if n == 0 {
		return nil, errors.New("an element is not whole")
	}
	switch {
	case c.left == 0 && packet[0] == '*':
		c.left, err = number(packet, maxArgs)
		c.size = 0
		return nil, err
	case c.left == 0 && packet[0] == '$':
		return nil, errors.New("a string outside of a command")
	case c.left == 0:
		return bytes.Fields(slices.Clone(packet)), nil
	case packet[0] != '$':
		return nil, fmt.Errorf("expected '$', got %q", packet[0])
	}
	text := packet[bytes.IndexByte(packet, '\n')+1:]
	text = text[:len(text)-len("\r\n")]
	if c.size += len(text); c.size > maxCommand {
		return nil, fmt.Errorf("arguments of more than %d bytes", maxCommand)
	}
	c.args = append(c.args, slices.Clone(text))
	if c.left--; c.left > 0 {
		return nil, nil
	}
	args, c.args = c.args, nil
	return args, nil
}
