// Command netpoll serves echo or broadcast with github.com/cloudwego/netpoll.
package main

import (
	"context"
	"sync"

	"github.com/cloudwego/netpoll"

	"github.com/servercore-go/servercore/bench/peers/peer"
)

var config peer.Config

func main() {
	config = peer.Parse()
	if err := netpoll.Configure(netpoll.Config{PollerNum: config.Loops}); err != nil {
		peer.Fail(err)
	}
	handle, options := echo, []netpoll.Option(nil)
	if !config.Echo {
		handle, options = broadcast, []netpoll.Option{netpoll.WithOnConnect(join)}
	}
	loop, err := netpoll.NewEventLoop(handle, options...)
	if err != nil {
		peer.Fail(err)
	}
	listener, err := netpoll.CreateListener("tcp", config.Addr)
	if err != nil {
		peer.Fail(err)
	}
	config.Listening()
	peer.Fail(loop.Serve(listener))
}

// echo uses the nocopy API. Flush returns when the kernel has taken all bytes, so the result of Next may be released then.
func echo(_ context.Context, c netpoll.Connection) error {
	r, w := c.Reader(), c.Writer()
	data, err := r.Next(r.Len())
	if err != nil {
		return err
	}
	if _, err := w.WriteBinary(data); err != nil {
		return err
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return r.Release()
}

// A member is a connection with a lock: a netpoll.Connection has one writer at a time.
type member struct {
	netpoll.Connection
	writing sync.Mutex
}

type memberKey struct{}

var room peer.Room[*member]

func join(ctx context.Context, c netpoll.Connection) context.Context {
	m := &member{Connection: c}
	c.AddCloseCallback(func(netpoll.Connection) error {
		room.Leave(m)
		return nil
	})
	room.Join(m)
	return context.WithValue(ctx, memberKey{}, m)
}

// broadcast blocks in Flush for a member that does not read, as this engine does.
func broadcast(ctx context.Context, c netpoll.Connection) error {
	r := c.Reader()
	data, err := r.Next(r.Len())
	if err != nil {
		return err
	}
	self, _ := ctx.Value(memberKey{}).(*member)
	for message := range config.Messages(data) {
		room.Others(self, func(other *member) { other.send(message) })
	}
	return r.Release()
}

// send ignores errors: an error means that the member is closing.
func (m *member) send(message []byte) {
	m.writing.Lock()
	defer m.writing.Unlock()
	if _, err := m.Writer().WriteBinary(message); err == nil {
		m.Writer().Flush()
	}
}
