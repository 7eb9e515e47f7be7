package echoserver

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/servercore-go/servercore/engine"
	"github.com/servercore-go/servercore/internal/unixpath"
)

// Pages makes the handler that -observe serves: observe.Handler, in a program that has it. Its package is not imported here, so that the
// module of the library does not require Prometheus' client.
type Pages func(e *engine.Engine, o PagesOptions) http.Handler

// PagesOptions are what the settings say about the pages.
type PagesOptions struct {
	Admin  bool           // -observe-admin
	Token  string         // the variable ECHOSERVER_OBSERVE_TOKEN
	Level  *slog.LevelVar // of the log
	Logger *slog.Logger
}

// observeToken is the variable with the token of -observe-admin. It has no flag: other users of the machine can read the arguments.
const observeToken = "ECHOSERVER_OBSERVE_TOKEN"

// observeSocket is the variable that describes the socket of -observe to a successor: the number of its descriptor, a space, and the
// -observe for which it was opened.
const observeSocket = "ECHOSERVER_OBSERVE_SOCKET"

// pagesPatience is how long answers that are on their way may take when the server of the pages ends.
const pagesPatience = time.Second

// observeFlags binds the flags to c.
func (c *config) observeFlags(fs *flag.FlagSet) {
	fs.StringVar(&c.observe, "observe", "",
		"where to show what the server does, to a browser and to Prometheus: `host:port`, such as\n127.0.0.1:9100, or unix:PATH. The pages show the clients' addresses: keep them from clients.")
	fs.BoolVar(&c.observeAdmin, "observe-admin", false,
		"let the pages of -observe act too: disconnect a client, set the level of the log, take profiles. Clients\nmust be on this machine, or send the token that the variable "+observeToken+" has.")
}

// parseObserve reads the address of -observe.
func (c *config) parseObserve() (err error) {
	switch {
	case c.observe != "":
		c.observeNetwork, c.observeAddress, err = parseAddr("observe", c.observe)
	case c.observeAdmin:
		err = errors.New("-observe-admin says what the pages of -observe may do: give -observe an address too, such as 127.0.0.1:9100")
	}
	return err
}

// start opens the socket of -observe and starts the engine.
func (s *service) start(environ []string) (err error) {
	if s.pages, err = openObserver(s.config, environ); err != nil {
		return err
	}
	if err := s.Start(); err != nil {
		s.pages.close()
		return fmt.Errorf("cannot listen on %s: %w", s.config.addr, err)
	}
	return nil
}

// observer serves the pages of -observe. A nil one serves nothing.
type observer struct {
	addr     string // the -observe for which the socket was opened
	listener net.Listener
	path     *unixpath.Binding // of a unix socket; nil if it is not to be removed
	taken    string            // the path of a unix socket that the predecessor may still use, "" for none
	end      sync.Once
	server   *http.Server       // nil before serve
	stop     context.CancelFunc // ends the requests that last
	served   chan struct{}      // closed when nothing is accepted any more

	mu       sync.Mutex
	busy     map[net.Conn]bool // connections that wait for their first request, or for an answer
	answered chan struct{}     // closed when none is busy; nil until the end begins
}

// openObserver opens the socket of -observe, or takes that of the predecessor over. It returns nil without -observe.
func openObserver(c *config, environ []string) (*observer, error) {
	inherited, err := inheritedObserver(environ, c.observe)
	if err != nil || c.observe == "" {
		return nil, err
	}
	o := &observer{addr: c.observe, listener: inherited}
	bind := func() (net.Listener, error) { return net.Listen(c.observeNetwork, c.observeAddress) }
	isPath := c.observeNetwork == "unix" && !unixpath.IsAbstract(c.observeAddress)
	switch {
	case inherited != nil && isPath:
		o.taken = c.observeAddress
	case inherited != nil:
	case isPath:
		o.listener, o.path, err = unixpath.Listen(c.observeAddress, bind)
	default:
		o.listener, err = bind()
	}
	if err != nil {
		return nil, fmt.Errorf("cannot listen on -observe %s: %w", c.observe, err)
	}
	return o, nil
}

// inheritedObserver returns the socket of the predecessor's -observe, nil if there is none, or if it is for another address.
func inheritedObserver(environ []string, addr string) (net.Listener, error) {
	value := lookup(environ, observeSocket)
	if value == "" {
		return nil, nil
	}
	number, of, ok := strings.Cut(value, " ")
	fd, err := strconv.Atoi(number)
	if !ok || err != nil || fd <= firstInherited {
		return nil, fmt.Errorf("cannot take over from a predecessor: %s=%q, want the number of a descriptor, a space and an address; unset it", observeSocket, value)
	}
	f := inherited(fd, "socket of the predecessor's -observe")
	defer f.Close()
	if of != addr {
		return nil, nil
	}
	ln, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("cannot take over the socket of -observe %s from a predecessor: %w", addr, err)
	}
	return ln, nil
}

// serve begins to serve the pages, on goroutines of their own.
func (o *observer) serve(h http.Handler, log *slog.Logger) {
	if o == nil {
		return
	}
	var requests context.Context
	requests, o.stop = context.WithCancel(context.Background())
	o.served, o.busy = make(chan struct{}), make(map[net.Conn]bool)
	o.server = &http.Server{
		Handler:           h,
		BaseContext:       func(net.Listener) context.Context { return requests },
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		ConnState:         o.follow,
	}
	go func() {
		defer close(o.served)
		if err := o.server.Serve(o.listener); !errors.Is(err, net.ErrClosed) {
			log.Error("-observe is served no more; restart the server to have it back", "err", err)
		}
	}()
}

// follow keeps busy, as the server calls it at each change of a connection.
func (o *observer) follow(c net.Conn, to http.ConnState) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if to == http.StateNew || to == http.StateActive {
		o.busy[c] = true
		return
	}
	delete(o.busy, c)
	if o.answered != nil && len(o.busy) == 0 {
		close(o.answered)
		o.answered = nil
	}
}

// awaitAnswers waits until no connection is busy, but no longer than pagesPatience.
func (o *observer) awaitAnswers() {
	answered := make(chan struct{})
	o.mu.Lock()
	if len(o.busy) > 0 {
		o.answered = answered
	} else {
		close(answered)
	}
	o.mu.Unlock()
	late := time.NewTimer(pagesPatience)
	defer late.Stop()
	select {
	case <-answered:
	case <-late.C:
	}
}

// say writes where the pages are.
func (o *observer) say(to io.Writer) {
	if o == nil {
		return
	}
	if a := o.listener.Addr(); a.Network() == "unix" {
		fmt.Fprintf(to, "observe on %s\n", formatAddr(a))
	} else {
		fmt.Fprintf(to, "observe on http://%s/\n", a)
	}
}

// file returns a duplicate of the socket, for a successor, nil without -observe. The duplicate that the listener's File returns would make the
// socket blocking when a process is started with it: an Accept that begins then would never return.
func (o *observer) file() (*os.File, error) {
	if o == nil {
		return nil, nil
	}
	raw, err := o.listener.(syscall.Conn).SyscallConn()
	if err != nil {
		return nil, err
	}
	fd, errDup := -1, error(nil)
	if err = raw.Control(func(s uintptr) { fd, errDup = unix.FcntlInt(s, unix.F_DUPFD_CLOEXEC, 0) }); err == nil {
		err = os.NewSyscallError("fcntl", errDup)
	}
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), "socket of -observe"), nil
}

// own makes the path of a unix socket that was taken over this process's to remove: the predecessor has no use for it any more.
func (o *observer) own() {
	if o != nil && o.taken != "" {
		o.path, o.taken = unixpath.Bound(o.taken), ""
	}
}

// handOver ends the server of the pages; the socket is the successor's. A page that is open connects again, to the successor.
func (o *observer) handOver() {
	if o != nil {
		o.path = nil
		o.close()
	}
}

// close ends the server of the pages and waits until it has ended, for little longer than pagesPatience. It removes the path of a unix
// socket.
func (o *observer) close() {
	if o == nil {
		return
	}
	o.end.Do(func() {
		_ = o.path.Remove()
		if o.server == nil {
			_ = o.listener.Close()
			return
		}
		// Not Shutdown, which answers no request that it reads from then on: a client whose connection was accepted a moment ago has its answer.
		_ = o.listener.Close()
		<-o.served
		o.server.SetKeepAlivesEnabled(false)
		o.stop()
		o.awaitAnswers()
		_ = o.server.Close()
	})
}
