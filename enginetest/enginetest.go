// Package enginetest tests an engine against the contract: what a user of the engine may rely on, promise by promise. It serves engines
// of any options, sessions behind a layer, and sessions that another event loop drives.
//
//	func TestContract(t *testing.T) {
//		enginetest.Run(t, enginetest.Variant{Network: "unix", Loops: 4, Offloaded: true})
//	}
//
// Each promise is a subtest, or several, named by its number and a sentence: "E3 Abort resets at once". Select them as any subtest:
//
//	go test -run 'TestContract/E3'
//
// The numbers are those of the contract: L lifecycle, S sending, E ending, R rooms, T trouble; A is what holds of the API in general.
// Promises that are not about sessions (bad options, descriptors that run out, paths of unix sockets) are tested in package engine.
//
// # For those who change this package
//
//	enginetest.go   Variant, Run                 promise.go   the list of promises, and which of them a variant is tested for
//	general.go      A                            lifecycle.go, reasons.go             L1 to L4, L5
//	sending.go      S1 to S6, S8                 slow.go      S5, S7
//	ending.go, draining.go, shutdown.go          E1 to E4     received.go  E2c
//	rooms.go, members.go                         R            trouble.go   T
//	server.go       the engine that a variant has by default
package enginetest

import (
	"context"
	"iter"
	"net"
	"testing"

	"github.com/servercore-go/servercore/engine"
	"github.com/servercore-go/servercore/session"
)

// Variant says how the suite makes engines, and how clients reach them. The zero value is an engine with default options on TCP.
type Variant struct {
	// Network is "tcp", "tcp4", "tcp6" or "unix". Default: "tcp". Promises about a peer's reset are not tested over unix sockets, which
	// know none.
	Network string

	// Address returns an address to listen on, a new one for each call. Default: a free port of the loopback, or a path in a new folder.
	Address func(t testing.TB) string
	fixed   func(t testing.TB) string // the default's addresses that nobody else is given when a server has ended; nil for another Address

	// Loops is the number of event loops. Default: 1.
	Loops int

	// Offloaded runs callbacks on as many workers as there are loops.
	Offloaded bool

	// Framed gives sessions packets (a length of four bytes, and so many bytes), and has clients send and read packets. What one write
	// takes is not tested.
	Framed bool

	// Dialled has the engine dial its sessions: the client of the suite is a server of package net. Promises about accepting are not tested.
	Dialled bool

	// Client puts the client's side of a layer on top of a connection; the sessions' side comes with New or Options. It runs on the test's
	// goroutine and may block until a handshake is done. If what it returns has a CloseWrite method, that ends the writing side. Promises
	// about the exact number of bytes on the wire are not tested. Default: the connection itself.
	Client func(net.Conn) (net.Conn, error)

	// Messages says that the layer has messages, as WebSocket does: one Send is one message, an empty one too. Write of what Client returns makes
	// messages, and Read takes what is in them.
	Messages bool

	// Options returns more options of Listen or Dial, new ones for each engine. Default: none.
	Options func() []engine.Option

	// New makes a server, not yet started, that listens on the address and makes a session with f for each connection; it returns a
	// function for the real address. The options o have Loops and Logger set. Default: engine.New and Listen. Dialled variants need a
	// Server with the Dial method of engine.Engine, and get the address "".
	New func(o engine.Options, network, address string, f session.Factory, opts ...engine.Option) (s Server, addr func() net.Addr, err error)

	// NoEngine says that what New returns is a Server and no Engine: another event loop drives the sessions, and has an end of its own.
	// Promises about the end of an engine are not tested, those about its sessions' end are.
	NoEngine bool

	// Except has the promises that the variant does not keep, each with the reason. A key is a number ("T2"), which stands for all
	// subtests of that number, or the name of one subtest. A key that names no subtest is an error.
	Except map[string]Exception
}

// Exception is why a variant does not keep a promise: Fails or NotPromised.
type Exception struct {
	why     string
	untried bool
}

// Fails is the exception of a promise that is broken each time. The subtest runs and must fail: that the promise holds is an error.
func Fails(why string) Exception { return Exception{why: why} }

// NotPromised is the exception of a promise that holds or not as time and the kernel's buffers have it, or that takes more down than its
// own server when it is broken. The subtest does not run; the log of Run names it.
func NotPromised(why string) Exception { return Exception{why: why, untried: true} }

// Server is what the suite needs of whatever drives sessions.
type Server interface {
	// Start returns when connections are accepted, or with the reason why they cannot be.
	Start() error

	// Shutdown ends every session as Disconnect does, with session.ErrShutdown, aborts what is left when ctx ends, and returns ctx's error
	// then. Nobody listens any more when it returns.
	Shutdown(ctx context.Context) error

	// Close aborts every session, and waits until all is over unless a callback does not return. It may be called any number of times.
	Close() error

	// Stats counts sessions, what was refused, and what the loops do. Loops is nil before Start.
	Stats() engine.Stats

	// Sessions is a snapshot of the open ones.
	Sessions() iter.Seq[session.Handler]
}

// Engine is what the suite uses besides of an engine. *engine.Engine is one.
type Engine interface {
	Server
	Run(ctx context.Context) error
	Done() <-chan struct{}
	Err() error
}

// Run tests the engines of v, most promises in parallel subtests, and checks that no buffer, goroutine or descriptor is left. No other
// test may run at the same time. Most of the time is spent on waiting: with -parallel 12 it takes some seconds.
func Run(t *testing.T, v Variant) {
	t.Helper()
	v.fillIn()
	noLeaks(t)
	v.run(t, promises())
}
