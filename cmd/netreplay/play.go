package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/servercore-go/servercore/record"
)

// player plays one session.
type player struct {
	*config
	script *script
	report *report
	began  time.Time

	conn  net.Conn
	moved chan struct{} // has one when something has come, or the end
	over  chan struct{} // closed at the end of what comes

	mu      sync.Mutex
	compare comparer
	err     error // why nothing more comes, io.EOF for the server's FIN; set before over is closed
}

// result is what came of a session.
type result struct {
	sent, pieces, got int
	messages          int
	bad               int         // messages that differ, or 1
	first             *difference // nil for none
}

// play plays the session and returns what came of it.
func (p *player) play(ctx context.Context) (r result) {
	p.compare = comparer{framer: p.framer, ignore: p.ignore, want: newAnswers(p.script)}
	defer p.compare.want.stop()
	conn, err := p.dial(ctx)
	if err != nil {
		return result{bad: 1, first: &difference{what: fmt.Sprintf("no connection: %v", err), marked: -1}}
	}
	p.conn, p.moved, p.over = conn, make(chan struct{}, 1), make(chan struct{})
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	go p.read()
	why := p.act(ctx, &r)
	if why == "" {
		why = p.awaitEnd(ctx)
	}
	_ = conn.Close()
	<-p.over
	p.judge(why)
	r.got, r.messages, r.bad, r.first = p.compare.got, p.compare.messages, p.compare.bad, p.compare.first
	return r
}

// read reads what the server sends, to the end.
func (p *player) read() {
	defer close(p.over)
	b := make([]byte, 32<<10)
	for {
		n, err := p.conn.Read(b)
		p.mu.Lock()
		p.compare.feed(b[:n])
		p.err = err
		p.mu.Unlock()
		p.report.received.Add(int64(n))
		select {
		case p.moved <- struct{}{}:
		default:
		}
		if err != nil {
			return
		}
	}
}

// act does what the client did. It returns why it could not, "" if it could.
func (p *player) act(ctx context.Context, r *result) (why string) {
	for s, err := range p.script.steps() {
		if err != nil {
			return unreadable(err)
		}
		if !pause(ctx, p.due(p.began, s.at)) {
			return "interrupted"
		}
		// An end of the client's must not come before the answers: it could keep them away.
		if p.lockstep || s.kind != record.Data {
			if why := p.awaitAnswers(ctx, s.before); why != "" {
				return why
			}
			if s.last {
				if why := p.awaitOver(ctx); why != "" {
					return why
				}
			}
		}
		switch s.kind {
		case record.Data:
			if len(s.data) == 0 {
				continue
			}
			_ = p.conn.SetWriteDeadline(time.Now().Add(p.wait))
			n, err := p.conn.Write(s.data)
			r.sent += n
			r.pieces++
			p.report.sent.Add(int64(n))
			if err != nil {
				return p.whyNotWritten(err)
			}
		case record.Finished:
			if c, ok := p.conn.(interface{ CloseWrite() error }); ok {
				_ = c.CloseWrite()
			}
		case record.Reset:
			if c, ok := p.conn.(interface{ SetLinger(int) error }); ok {
				_ = c.SetLinger(0)
			}
			return ""
		}
	}
	return ""
}

// unreadable describes that the recording cannot be read any more.
func unreadable(err error) string { return fmt.Sprintf("the recording cannot be read (%v)", err) }

// whyNotWritten describes that the server takes nothing more. If it has ended, that is what counts, and what it had sent before is read first.
func (p *player) whyNotWritten(err error) string {
	if e := net.Error(nil); errors.As(err, &e) && e.Timeout() {
		return fmt.Sprintf("the server has read nothing for %v,", p.wait)
	}
	t := time.NewTimer(p.wait)
	defer t.Stop()
	select {
	case <-p.over:
	case <-t.C:
	}
	return "the server has ended the session"
}

// awaitAnswers waits until that many bytes have come. It returns why they will not, "" if they have.
func (p *player) awaitAnswers(ctx context.Context, n int) (why string) {
	t := time.NewTimer(p.wait)
	defer t.Stop()
	for {
		p.mu.Lock()
		enough := p.compare.got >= n
		p.mu.Unlock()
		if enough {
			return ""
		}
		select {
		case <-p.moved:
			t.Reset(p.wait)
		case <-p.over:
			p.mu.Lock()
			defer p.mu.Unlock()
			if p.compare.got >= n {
				return ""
			}
			return p.endedBy()
		case <-t.C:
			return fmt.Sprintf("nothing more came for %v", p.wait)
		case <-ctx.Done():
			return "interrupted"
		}
	}
}

// endedBy describes the end of what came. The caller holds mu.
func (p *player) endedBy() string {
	if p.err == io.EOF {
		return "the server has finished"
	}
	return fmt.Sprintf("the connection has failed (%v)", p.err)
}

// awaitEnd waits for all answers, and for the server's end if it ended the session before the client did.
func (p *player) awaitEnd(ctx context.Context) (why string) {
	if why := p.awaitAnswers(ctx, p.script.answers); why != "" {
		return why
	}
	if p.script.end == stayedOpen || p.script.resets {
		return ""
	}
	return p.awaitOver(ctx)
}

// awaitOver waits for the server's end.
func (p *player) awaitOver(ctx context.Context) (why string) {
	t := time.NewTimer(p.wait)
	defer t.Stop()
	for {
		select {
		case <-p.over:
			return ""
		case <-p.moved:
			t.Reset(p.wait)
		case <-t.C:
			why := fmt.Sprintf("the server has not ended the session within %v", p.wait)
			if reason := p.script.session.Reason; reason != "" { // it may have waited itself, longer than -wait
				why += fmt.Sprintf(", as the recorded one has (%s)", reason)
			}
			return why
		case <-ctx.Done():
			return "interrupted"
		}
	}
}

// judge notes what was wrong besides bytes. Nothing comes any more.
func (p *player) judge(why string) {
	c, end := &p.compare, p.script.end
	switch {
	case c.want.err != nil:
		c.note(&difference{offset: c.got, what: unreadable(c.want.err), marked: -1})
	case end == wasReset && p.err != nil: // a reset destroys what was not read: any part of the answers will do
	case why != "" && c.got < c.want.total:
		c.finish(why)
	case why != "" && why != "interrupted" && c.first == nil:
		c.note(&difference{offset: c.got, what: why, marked: -1})
	case end == finished && !p.script.resets && p.err != io.EOF && c.first == nil:
		c.note(&difference{offset: c.got, what: fmt.Sprintf("the connection has failed where the recorded server finished (%v)", p.err), marked: -1})
	}
	if end == finished {
		c.finishExtra()
	}
}
