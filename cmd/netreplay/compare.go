package main

import (
	"bytes"
	"fmt"

	"github.com/servercore-go/servercore/frame"
)

// comparer compares what a server answers with what was recorded, as it comes.
type comparer struct {
	framer frame.Framer // nil compares bytes
	ignore []span
	want   *answers

	got      int         // bytes that have come
	messages int         // that were compared
	bad      int         // messages that differ; 1 for bytes
	first    *difference // nil for none

	// With a framer.
	rest   []byte // of an answer that is not whole
	at     int    // of want: where the next message begins
	gotAt  int    // the same of what has come
	broken bool   // what has come is no message
	extra  []byte // the beginning of what came behind all that was recorded
}

// difference is where an answer differs.
type difference struct {
	offset  int    // of the answers, in bytes
	message int    // the number of the message, from 1; 0 without a framer
	inside  int    // the offset in the message
	what    string // what is wrong, if that is not a byte
	want    []byte // around it
	got     []byte
	marked  int // the byte of both that differs
}

// around is how many bytes are shown on each side of a difference.
const around = 12

// feed takes what came.
func (c *comparer) feed(p []byte) {
	if c.framer != nil {
		c.got += len(p)
		c.feedMessages(p)
		return
	}
	begin := c.got
	c.got += len(p)
	if c.first != nil {
		return
	}
	want := c.want.part(begin, begin+len(p))
	n := len(want)
	if i := differs(p[:n], want); i >= 0 {
		c.bad = 1
		c.first = &difference{offset: begin + i}
		from := max(begin+i-around, 0)
		c.first.show(c.want.part(from, begin+i+around), begin+i-from, p, i)
		return
	}
	c.addExtra(p[n:])
	c.want.drop(begin + n - around)
}

// addExtra keeps the beginning of what is more than was recorded.
func (c *comparer) addExtra(p []byte) {
	c.extra = append(c.extra, p[:min(len(p), 2*around-len(c.extra))]...)
}

// feedMessages compares message by message.
func (c *comparer) feedMessages(p []byte) {
	if c.broken {
		return
	}
	if len(c.rest) > 0 {
		c.rest = append(c.rest, p...)
		p = c.rest
	}
	for len(p) > 0 {
		message, n, err := c.framer.Split(p)
		if err != nil {
			c.broken = true
			c.note(&difference{offset: c.gotAt, message: c.messages + 1, what: fmt.Sprintf("no message: %v", err), got: bytes.Clone(p[:min(len(p), 2*around)])})
			break
		}
		if n == 0 {
			break
		}
		c.compare(message, p[:n])
		p = p[n:]
		c.gotAt += n
	}
	c.rest = append(c.rest[:0], p...)
}

// compare compares the next message. whole is the same with its header.
func (c *comparer) compare(message, whole []byte) {
	want, n, err := c.framer.Split(c.want.part(c.at, c.at+len(whole)))
	for err == nil && n == 0 && c.want.readMore() {
		want, n, err = c.framer.Split(c.want.part(c.at, c.want.from+len(c.want.b)))
	}
	if err != nil || n == 0 {
		c.addExtra(whole)
		return
	}
	defer func() { c.want.drop(c.at) }()
	began := c.at
	c.messages++
	c.at += n
	i := c.differsIn(message, want)
	if i < 0 {
		return
	}
	d := &difference{offset: began, message: c.messages, inside: i}
	if len(message) != len(want) {
		d.what = fmt.Sprintf("the message has %d bytes instead of %d", len(message), len(want))
	}
	d.show(want, i, message, i)
	c.note(d)
}

// differsIn is differs but for what is ignored.
func (c *comparer) differsIn(a, b []byte) int {
	i := differs(a, b)
	if i < 0 || len(c.ignore) == 0 {
		return i
	}
	a, b = bytes.Clone(a), bytes.Clone(b)
	for _, s := range c.ignore {
		for _, p := range [][]byte{a, b} {
			clear(p[min(s.from, len(p)):min(s.from+s.n, len(p))])
		}
	}
	return differs(a, b)
}

// note counts a difference.
func (c *comparer) note(d *difference) {
	c.bad++
	if c.first == nil {
		c.first = d
	}
}

// differs returns where a and b differ first, -1 if they do not.
func differs(a, b []byte) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	if len(a) != len(b) {
		return min(len(a), len(b))
	}
	return -1
}

// show keeps what is around a difference: at i of want, at j of got.
func (d *difference) show(want []byte, i int, got []byte, j int) {
	before := min(i, j, around)
	d.marked = before
	d.want = bytes.Clone(want[i-before : min(i+around, len(want))])
	d.got = bytes.Clone(got[j-before : min(j+around, len(got))])
}

// finish notes what is missing when nothing more comes. why says so.
func (c *comparer) finish(why string) {
	if c.first == nil && c.got < c.want.total {
		c.note(&difference{offset: c.got, what: fmt.Sprintf("%s after %d of %d bytes", why, c.got, c.want.total),
			want: bytes.Clone(c.want.part(c.got, c.got+2*around)), marked: -1})
	}
}

// finishExtra notes what came behind the recorded end.
func (c *comparer) finishExtra() {
	if c.first == nil && len(c.extra) > 0 {
		c.note(&difference{offset: c.want.total, what: fmt.Sprintf("%d bytes more than recorded", c.got-c.want.total), got: c.extra, marked: -1})
	}
}
