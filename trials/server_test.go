//go:build linux

package trials

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/servercore-go/servercore/engine"
	"github.com/servercore-go/servercore/frame"
	"github.com/servercore-go/servercore/pool"
	"github.com/servercore-go/servercore/session"
)

// plan is what a trial's server does besides the verbs. A server process finds its plan by the name of the trial.
type plan struct {
	options engine.Options
	address string                   // default: a free port of 127.0.0.1
	tls     bool                     // the listener for records speaks TLS
	ws      *engine.WebSocketOptions // it speaks WebSocket, above TLS if both
	thrift  bool                     // collect garbage early: the memory in use is judged, not what has been
	factory session.Factory          // default: members
	uid     int                      // the user to become before the engine starts, 0 for none

	connected    func(*member)
	raw          func(m *member, data []byte) bool // takes what was received, if it returns true
	verb         func(m *member, payload []byte)   // a verb of the trial's own
	sent         func(*member)
	disconnected func(*member)
	command      func(c *content, argument string) any // a command of the trial's own
}

var plans = map[string]func() plan{}

// report is the state of a server.
type report struct {
	Lives      []life // ended since the last report; those still alive have Ended 0
	Live       int
	Peak       int // the most that lived at once
	Connected  int // calls of OnConnected
	Ended      int // calls of OnDisconnected
	Faults     []string
	Stats      engine.Stats
	Buffers    int64 // pool.Live
	Goroutines int
	Heap       uint64 // HeapInuse after GC
	CPU        int64  // nanoseconds
}

// hello is the first line of a server: where it listens.
type hello struct {
	PID                     int
	Records, Lesson, Length string // its addresses: streams of records (with overTLS and overWebSocket in front if it speaks those), frame.ServerCore, frame.LengthField
}

// frameLimit is the largest frame of the listener for frame.LengthField.
const frameLimit = 64 << 10

// serverMain is the main function of a server process. It reads commands from stdin, one per line, and answers each with a line of JSON
// on stdout. The log goes to stderr. None of this needs another descriptor.
func serverMain(name string) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	make := plans[name]
	if make == nil { // a trial may have several servers, of several plans or of one
		name, _, _ = strings.Cut(name, " ")
		make = plans[name]
	}
	var p plan
	if make != nil {
		p = make()
	}
	if p.thrift {
		debug.SetGCPercent(10)
	}
	if p.uid != 0 {
		if err := syscall.Setuid(p.uid); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 2
		}
	}
	p.options.Logger = slog.New(slog.NewTextHandler(os.Stderr, nil))
	e, err := engine.New(p.options)
	c := &content{plan: p, engine: e}
	if err == nil {
		err = c.listen(ctx, e)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "the server has ended:", err)
		return 1
	}
	return 0
}

func (c *content) listen(ctx context.Context, e *engine.Engine) error {
	address := c.plan.address
	if address == "" {
		address = "127.0.0.1:0"
	}
	factory := c.plan.factory
	if factory == nil {
		factory = func() session.Handler { return &member{server: c} }
	}
	var listeners []*engine.Listener
	var records []engine.Option
	prefix := ""
	if c.plan.tls {
		config, err := serverTLS()
		if err != nil {
			return err
		}
		records, prefix = append(records, engine.TLS(config)), overTLS
	}
	if c.plan.ws != nil {
		records, prefix = append(records, engine.WebSocket(*c.plan.ws)), prefix+overWebSocket
	}
	for _, opts := range [][]engine.Option{records, {engine.Framed(frame.ServerCore{})},
		{engine.Framed(frame.LengthField{LengthFieldLength: 4, InitialBytesToStrip: 4, MaxFrameLength: frameLimit})}} {
		if l, err := e.Listen("tcp", address, factory, opts...); err != nil {
			return err
		} else {
			listeners = append(listeners, l)
		}
		address = "127.0.0.1:0"
	}
	ended := make(chan error, 1)
	ready := make(chan struct{})
	go func() { // Run, with a moment to tell where it listens
		if err := e.Start(); err != nil {
			ended <- err
			return
		}
		close(ready)
		ended <- c.run(ctx, e)
	}()
	select {
	case err := <-ended:
		return err
	case <-ready:
	}
	answer(hello{os.Getpid(), prefix + listeners[0].Addr().String(), listeners[1].Addr().String(), listeners[2].Addr().String()})
	go c.obey(e)
	return <-ended
}

// run is Engine.Run after Start.
func (c *content) run(ctx context.Context, e *engine.Engine) error {
	select {
	case <-e.Done():
		return fmt.Errorf("by itself: %w", e.Err())
	case <-ctx.Done():
	}
	grace := context.Background()
	if d := c.plan.options.DrainTimeout; d > 0 {
		var cancel context.CancelFunc
		grace, cancel = context.WithTimeout(grace, d)
		defer cancel()
	}
	err := e.Shutdown(grace)
	if err != nil && grace.Err() == nil {
		return err
	}
	answer(c.report(e, false)) // the last word: of every session
	return nil
}

func answer(v any) {
	line, err := json.Marshal(v)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(3)
	}
	_, _ = os.Stdout.Write(append(line, '\n'))
}

// obey serves commands until stdin ends, because then the process that would end this one is gone.
func (c *content) obey(e *engine.Engine) {
	commands := bufio.NewScanner(os.Stdin)
	for commands.Scan() {
		verb, argument, _ := strings.Cut(commands.Text(), " ")
		switch {
		case verb == "report":
			answer(c.report(e, argument == "gc"))
		case verb == "live":
			c.mu.Lock()
			n := len(c.live)
			c.mu.Unlock()
			answer(n)
		case verb == "stats":
			answer(e.Stats())
		case c.plan.command != nil:
			answer(c.plan.command(c, argument))
		}
	}
	os.Exit(4)
}

func (c *content) report(e *engine.Engine, collect bool) report {
	c.mu.Lock()
	r := report{Lives: c.lives, Live: len(c.live), Peak: c.peak, Connected: c.connected, Ended: c.ended, Faults: c.faults}
	for m := range c.live {
		r.Lives = append(r.Lives, m.identity())
	}
	c.lives, c.silent = nil, 0
	c.mu.Unlock()
	r.Stats, r.Buffers, r.Goroutines = e.Stats(), pool.Live(), runtime.NumGoroutine()
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &t)
	r.CPU = t.Nano()
	if collect {
		runtime.GC()
		runtime.GC() // what a sync.Pool holds goes with the second
		debug.FreeOSMemory()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		r.Heap = m.HeapInuse
	}
	return r
}
