package bench

import (
	"fmt"
	"io"

	"golang.org/x/sys/unix"
)

// readMore goes on with the connections whose last read left something.
func (w *worker) readMore() {
	list := w.more
	w.more = w.more[:0]
	for _, i := range list { // read appends behind what was taken
		c := &w.conns[i]
		c.again = false
		if c.state == open {
			w.read(c, false)
		}
	}
}

// read reads what has arrived. toEnd says that the peer has closed: then read goes on after a short read, to the end of the stream.
func (w *worker) read(c *conn, toEnd bool) {
	for range readsAtOnce {
		n, err := c.read(w.in)
		now := w.clock() // the bytes are here now: this is the moment their latency is counted to
		switch {
		case err == unix.EAGAIN:
			return
		case err == unix.EINTR:
			continue
		case err == io.EOF || err == nil && n == 0:
			w.end(c, EarlyEnd, c.endText(), now)
			return
		case err != nil:
			w.end(c, classify(err), err.Error(), now)
			return
		}
		gen := c.gen
		w.take(c, w.in[:n], now)
		if c.state != open || c.gen != gen || n < len(w.in) && !toEnd && c.tls == nil {
			return
		}
	}
	if !c.again {
		c.again = true
		w.more = append(w.more, c.index)
	}
}

// take checks bytes that have arrived.
func (w *worker) take(c *conn, b []byte, now int64) {
	if c.ws != nil {
		w.takeFrames(c, b, now)
		return
	}
	p := w.run.pattern
	limit := w.load.limit(c)
	for len(b) > 0 {
		v := c.v.step(p, b, limit)
		if v.wrong|v.lost != 0 || v.repeated {
			w.blame(c, v, now)
		}
		if v.done && !v.repeated {
			w.load.message(w, c, v.seq, now)
		}
		b = b[v.n:]
	}
	w.load.received(w, c, now)
}

// blame counts the errors of a verdict.
func (w *worker) blame(c *conn, v verdict, now int64) {
	where := ""
	if w.run.sampling() {
		where = fmt.Sprintf("near message %d of stream %d", c.v.next, c.v.id)
	}
	if w.run.fan != nil {
		w.blamePlace(c, v)
	}
	if w.run.measured(now) {
		w.rec.now.spoiled += uint64(v.wrong) + uint64(v.lost)
		if v.misfit {
			w.rec.now.spoiled++
		}
	}
	if v.misfit {
		if where != "" {
			where += ": " + w.misfitText(v.length)
		}
		w.error(WrongMessage, 1, c, where, now)
	}
	if v.wrong > 0 {
		w.error(WrongBytes, uint64(v.wrong), c, where, now)
	}
	if v.lost > 0 {
		w.error(LostMessage, uint64(v.lost), c, where, now)
	}
	if v.repeated {
		w.error(RepeatedMessage, 1, c, where, now)
	}
}
