package engine

import (
	"context"
	"errors"
	"net"
	"os"
	"time"

	"github.com/panjf2000/gnet/v2"
	"golang.org/x/sys/unix"

	"github.com/servercore-go/servercore/internal/poll"
)

const (
	// attachAfter is how many inputs within a second make a connection busy. One that says hello and then little, as
	// most of very many do, is served as well without gnet, and costs half the memory.
	attachAfter = 4
	boarded     = 255 // in place of the number: gnet was asked to take the connection; that happens once

	// attachEvery is the least time between two steps to gnet on one loop. A step costs as much as some ten messages,
	// a twentieth of a millisecond: so a rush of clients that connect, say a few words and leave costs little more than
	// their words.
	attachEvery = time.Millisecond

	// maxBoarding bounds the connections of one loop that are on their way at once: each holds up to three
	// descriptors more.
	maxBoarding = 4
)

// boarding is a connection on its way to gnet. It is itself the context that gnet is given.
type boarding struct {
	context.Context
	conn *conn
}

// Value implements context.Context: gnet looks for the connection's context under a key of its own, as
// gnet.NewContext would have set it with one more allocation.
func (b *boarding) Value(any) any { return b }

// attachIfBusy counts an input and, if it shows the connection to be busy, attaches it.
func (c *conn) attachIfBusy() {
	if c.inputs == boarded {
		return
	}
	now := c.loop.engine.now()
	if second := uint8(now / time.Second); c.second != second {
		c.second, c.inputs = second, 0
	}
	if c.inputs++; c.inputs < attachAfter {
		return
	}
	c.inputs = attachAfter // tried again with each input
	if now >= c.loop.boardAt && c.loop.boarding.Load() < maxBoarding && !c.closed() && !c.paused && !c.over {
		c.loop.boardAt = now + attachEvery
		c.attach()
	}
}

// attach has gnet take a connection: a duplicate of it, for it goes on as before until gnet has opened that. If gnet
// cannot, it goes on for good.
func (c *conn) attach() {
	l := c.loop
	nc, err := c.duplicate()
	if err != nil {
		return // for want of descriptors, or the peer has left: there will be a next time, or none is needed
	}
	c.inputs = boarded
	l.boarding.Add(1)
	l.engine.boarders.Add(1)
	b := &boarding{context.Background(), c}
	result, err := l.gnet.Enroll(b, nc)
	if err != nil {
		_ = nc.Close()
		b.over()
		l.engine.log.limited(enrollLine, "connection not taken by gnet; its session goes on", "err", err, "loop", l.index)
		return
	}
	go b.await(result)
}

// duplicate returns the connection once more, as gnet wants it.
func (c *conn) duplicate() (net.Conn, error) {
	fd, err := duplicate(int(c.fd))
	if err != nil {
		return nil, err
	}
	file := os.NewFile(uintptr(fd), "connection")
	nc, err := net.FileConn(file)
	_ = file.Close()
	// Package net has switched the socket to blocking mode and back, if all went well.
	blocking := unix.SetNonblock(int(c.fd), true)
	if err != nil {
		return nil, err
	}
	if blocking != nil || nc.RemoteAddr() == nil {
		_ = nc.Close()
		return nil, errors.Join(blocking, errors.New("the peer has left"))
	}
	if tcp, ok := nc.(*net.TCPConn); ok {
		// It has also set options of its own.
		_ = setOptions(int(c.fd), &c.loop.engine.options)
		// gnet returns the zone of an address to a pool of bytes when it is done with it, and package net shares zone
		// strings between connections: so gnet gets to see no zone.
		share(tcp.RemoteAddr().(*net.TCPAddr), c.driver.Session().RemoteAddr())
		share(tcp.LocalAddr().(*net.TCPAddr), c.driver.Session().LocalAddr())
	}
	return nc, nil
}

// share takes the zone off an address that gnet will keep, and lets it have the bytes of ours.
func share(a *net.TCPAddr, ours net.Addr) {
	a.Zone = ""
	if tcp, ok := ours.(*net.TCPAddr); ok && tcp.IP.Equal(a.IP) {
		a.IP = tcp.IP
	}
}

// await ends the boarding, whether gnet has opened the connection or, of which it does not report, could not.
func (b *boarding) await(result <-chan gnet.RegisteredResult) {
	select {
	case <-result:
	case <-b.conn.loop.engine.gone: // gnet's loop ended by itself; the duplicate is gnet's loss
	}
	b.over()
}

func (b *boarding) over() {
	b.conn.loop.boarding.Add(-1)
	b.conn.loop.engine.boarders.Done()
}

// opened runs on the loop, outside of callbacks, when gnet has the connection: from here on it is gnet's, unless it
// has become one that gnet cannot keep.
func (b *boarding) opened(g gnet.Conn) gnet.Action {
	c := b.conn
	if c.closed() || c.paused || c.over || c.interest&poll.Write != 0 {
		g.SetContext(nil)
		return gnet.Close
	}
	g.SetContext(c)
	c.unwatch()
	_ = unix.Close(int(c.fd))
	c.gnet, c.fd = g, int32(g.Fd())
	return gnet.None
}
