package engine

import (
	"github.com/panjf2000/gnet/v2"
)

// reactor turns gnet's callbacks into jobs of the loop they belong to, and does nothing else. gnet calls it on
// the goroutine of that loop. It never returns bytes; connections are closed through EventLoop.Close,
// which is synchronous.
type reactor struct {
	gnet.BuiltinEventEngine
}

// OnOpen implements gnet.EventHandler. The context is what Enroll was given.
func (*reactor) OnOpen(g gnet.Conn) ([]byte, gnet.Action) {
	switch v := g.Context().(type) {
	case *boarding:
		return nil, v.opened(g)
	case *anchor:
		v.opened <- g.EventLoop()
	}
	return nil, gnet.None
}

// OnTraffic implements gnet.EventHandler. All input is taken at once, so that gnet never buffers any: the slice
// is gnet's read buffer, valid until OnTraffic returns.
func (*reactor) OnTraffic(g gnet.Conn) gnet.Action {
	data, _ := g.Next(-1)
	if c, ok := g.Context().(*conn); ok && len(data) > 0 {
		c.loop.enter(job{kind: jobTraffic, conn: c, data: data})
	}
	return gnet.None
}

// OnClose implements gnet.EventHandler. The descriptor is still open; gnet closes it when OnClose returns.
func (*reactor) OnClose(g gnet.Conn, err error) gnet.Action {
	switch v := g.Context().(type) {
	case *conn:
		if !v.leaving {
			v.loop.enter(job{kind: jobClose, conn: v, err: err})
		}
	case *anchor:
		v.loop.ended(err)
	}
	return gnet.None
}
