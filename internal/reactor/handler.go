package reactor

import "time"

// Handler is what a loop drives: one for all connections of the loop, as in gnet. C is what the owner keeps with each
// connection (see [Conn.Context]).
//
// OnOpen, OnTraffic and OnClose are the main methods. [Base] supplies all other methods, for handlers that need no more. Methods
// that take a connection run on the loop's goroutine, or on the one worker that serves the connection, if it is offloaded; the
// others on the loop's. For one connection they never run at the same time. A method may call runtime.Goexit: another goroutine
// carries on (invariant R5). A panic is the handler's to recover from.
type Handler[C any] interface {
	// OnOpen is the first call for a connection that was given to [Loop.Open]. What the peer has sent already follows.
	OnOpen(c *Conn[C])

	// OnTraffic brings bytes that were read. data is the loop's again when OnTraffic returns. Unlike gnet's, the loop keeps
	// nothing: the owner takes all of it.
	OnTraffic(c *Conn[C], data []byte)

	// OnClose tells that nothing more will be read: nil after the peer's FIN, all bytes before it having been brought to
	// OnTraffic; otherwise what broke the connection. Unlike gnet's, the descriptor is still open: after a FIN it takes bytes until
	// the owner calls [Conn.Close], and OnClose is called again, with an error, if it breaks.
	OnClose(c *Conn[C], err error)

	// OnError tells that a connection whose reading is off has failed. Bytes that came before may still wait in the kernel.
	OnError(c *Conn[C], err error)

	// OnWritable tells that the kernel takes bytes again, after [ErrWouldBlock]. It may be wrong: Write tells.
	OnWritable(c *Conn[C])

	// OnWake answers [Conn.Wake].
	OnWake(c *Conn[C])

	// OnResume answers [Conn.Again]. It also follows a Goexit, for every connection: the handler looks for what was left undone.
	OnResume(c *Conn[C])

	// OnDeadline answers [Conn.Arm], at that time or earlier. now is the time of [Loop.Now].
	OnDeadline(c *Conn[C], now time.Duration)

	// OnRelease answers [Conn.Release], on the loop's goroutine. It is the last call for a connection.
	OnRelease(c *Conn[C])

	// OnReady tells that there is news of a connection that was given to [Loop.Register] and not yet to Open: bytes, a FIN or a
	// failure may wait. The owner looks by [Conn.Peek].
	OnReady(c *Conn[C])

	// OnTurn does the owner's own pending work, once in each turn, and stops at that time. more is whether work is left:
	// another turn follows then. A goroutine that brings work calls [Loop.Wake] afterwards.
	OnTurn(until time.Duration) (more bool)

	// OnBoot tells that a goroutine begins to run the loop: by Run, or in place of one that has ended by Goexit.
	OnBoot()

	// OnShutdown tells that there are no events any more: err is nil after [Loop.Halt], otherwise why waiting for events failed.
	// The owner has every connection end, and opens none from then on. After a failure it is called until Halt is, in case the owner
	// has brought work meanwhile.
	OnShutdown(err error)
}

// Base is a Handler that does nothing but end connections: it closes and releases one on OnClose, and on OnError by a reset. Embed it, and write
// OnTraffic.
type Base[C any] struct{}

func (Base[C]) OnOpen(*Conn[C])                    {}
func (Base[C]) OnTraffic(*Conn[C], []byte)         {}
func (Base[C]) OnClose(c *Conn[C], _ error)        { c.Close(false); c.Release() }
func (Base[C]) OnError(c *Conn[C], _ error)        { c.Close(true); c.Release() }
func (Base[C]) OnWritable(*Conn[C])                {}
func (Base[C]) OnWake(*Conn[C])                    {}
func (Base[C]) OnResume(*Conn[C])                  {}
func (Base[C]) OnDeadline(*Conn[C], time.Duration) {}
func (Base[C]) OnRelease(*Conn[C])                 {}
func (Base[C]) OnReady(*Conn[C])                   {}
func (Base[C]) OnTurn(time.Duration) bool          { return false }
func (Base[C]) OnBoot()                            {}
func (Base[C]) OnShutdown(error)                   {}
