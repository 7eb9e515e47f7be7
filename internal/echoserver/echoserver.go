// Package echoserver is the reference server of this module: the engine with four small handlers, every limit within
// reach of a flag. It is all of command echoserver but its process, so that netbench can start the same server for its
// demo without a second program to install.
package echoserver

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/servercore-go/servercore/engine"
)

// Exit codes. A second signal is not a success: replies may have been cut off.
const (
	exitOK    = 0
	exitFault = 1
	exitUsage = 2
)

// drainTimeout is how long a stop may take: for the queue of each session (Options.DrainTimeout) and for all of
// them together.
const drainTimeout = 10 * time.Second

// defaultDrain is how long the sessions of a server that was replaced may go on.
const defaultDrain = time.Minute

// gcPercent is the heap's head-room, unless GOGC is set. Nearly all of this heap is sessions that stay, and serving
// them allocates nothing, so the default of 100 would only keep memory from others.
const gcPercent = 15

// LimitHeap sets how far the heap of this process may grow above what lives in it, unless GOGC says so. It is for a
// process that is the server and nothing else, before Main.
func LimitHeap() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
}

// Main is the whole program; args are those after its name, environ is the environment as os.Environ has it, nil for a
// server inside another program: that one takes no settings from there, knows no service manager, is not restarted, and
// takes no signal but SIGINT and SIGTERM. Main drains and returns when ctx ends or on a signal to stop, and returns the exit
// code. The first line on stdout is "listening on ADDRESS", in the form that -addr takes, one line for each socket; the
// status line follows there, the log goes to stderr. Nothing waits for the readers of the two, but that Main returns
// flushTime late at most; a write that still hangs then goes on after it.
func Main(ctx context.Context, args, environ []string, stdout, stderr io.Writer) int {
	whole := environ != nil
	caught := catchSignals(whole) // first, for one that comes early must not be lost
	defer caught.release(whole)
	screen := newScreen(stdout, stderr)
	defer screen.close(flushTime)

	before, err := findPredecessor(environ)
	if err != nil {
		fmt.Fprintf(screen.err, "echoserver: %v\n", err)
		return exitFault
	}
	s, code := caught.during(ctx, before, screen, func() (*service, int) { return prepare(args, environ, before, screen) })
	if s == nil {
		return code
	}
	s.stops, s.restarts, s.program = caught.stop, caught.restarts, program{args, stdout, stderr}
	s.stopStatus = func() {}
	if s.config.stats > 0 {
		s.stopStatus = sync.OnceFunc(screen.showStatus(s.config.stats, s.Stats))
	}
	defer func() { s.stopStatus() }()
	defer func() { s.manager.close() }()
	return s.run(ctx)
}

// prepare starts the server; it returns nil and the exit code if there is nothing to run.
func prepare(args, environ []string, before *predecessor, screen *screen) (*service, int) {
	cfg, err := parseFlags(args, environ)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(screen.out, helpText())
		return nil, exitOK
	case err != nil:
		return nil, usage(screen.err, err)
	}
	log := slog.New(slog.NewTextHandler(screen.log(), &slog.HandlerOptions{Level: cfg.logLevel}))
	e, err := engine.New(cfg.options(log))
	if err != nil {
		return nil, usage(screen.err, err)
	}
	s := &service{config: cfg, Engine: e, log: log, manager: newManager(environ, log), predecessor: before}
	if environ != nil {
		s.family, s.chain = newChildren(), newChain(environ)
		if err := s.inherit(); err != nil {
			fmt.Fprintf(screen.err, "echoserver: %v\n", err)
			return nil, exitFault
		}
	}
	if err := s.listen(); err != nil {
		return nil, usage(screen.err, err)
	}
	if err := e.Start(); err != nil {
		fmt.Fprintf(screen.err, "echoserver: cannot listen on %s: %v\n", cfg.addr, err)
		return nil, exitFault
	}
	for _, socket := range s.sockets {
		_ = socket.file.Close() // the engine has its own
	}
	for _, l := range s.listeners {
		fmt.Fprintf(screen.out, "listening on %s\n", formatAddr(l.Addr()))
	}
	return s, exitOK
}

func usage(stderr io.Writer, err error) int {
	fmt.Fprintf(stderr, "echoserver: %v\nRun echoserver -h for every flag and what it takes.\n", err)
	return exitUsage
}

// config is the command line, checked.
type config struct {
	addr             string // as given
	network, address string // addr, taken apart
	loops            int
	mode             string
	maxSessions      int
	sendLimit        int
	idle             time.Duration
	stats            time.Duration
	logLevel         slog.Level
	drain            time.Duration
	file             string
}

// smallestSendLimit leaves room for the largest chunk one OnRecv can bring (64 KiB) above the mark at which
// reading pauses (a quarter of the limit): below it an echo could be refused its own reply.
const smallestSendLimit = 128 << 10

func (c *config) options(log *slog.Logger) engine.Options {
	return engine.Options{
		Loops:        c.loops,
		MaxSessions:  c.maxSessions,
		SendLimit:    c.sendLimit,
		IdleTimeout:  c.idle,
		DrainTimeout: drainTimeout,
		Logger:       log,
	}
}

// flagSet binds the flags to c, which holds the defaults until they are parsed. It prints nothing by itself: the
// caller decides where text goes.
func flagSet(c *config) *flag.FlagSet {
	*c = config{addr: ":7777", mode: "echo", logLevel: slog.LevelInfo, drain: defaultDrain}
	fs := flag.NewFlagSet("echoserver", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.Usage = func() {}

	fs.StringVar(&c.addr, "addr", c.addr,
		"where to listen: `host:port`, or unix:PATH for a unix socket. Without a host: every address\nof this machine. Port 0: any free port.")
	fs.Func("loops",
		"`number` of event loops. 0, the default: one for each CPU the program may use.",
		number(&c.loops, 1, "0 (one for each CPU) or a positive number"))
	fs.Func("mode", modeHelp(), func(s string) error {
		if _, known := modes[s]; !known {
			return errors.New("use " + modeNames("or"))
		}
		c.mode = s
		return nil
	})
	fs.Func("max-sessions",
		"`number` of sessions served at a time; connections beyond it are closed at once.\n0, the default: what the limit on open files (ulimit -n) allows.",
		number(&c.maxSessions, 1, "0 (as many as open files allow) or a positive number"))
	fs.Func("send-limit",
		fmt.Sprintf("`bytes` that may wait for one slow client, %d or more. A client is not read while\na quarter of that waits for it. 0, the default: 1048576 (1 MiB).", smallestSendLimit),
		number(&c.sendLimit, smallestSendLimit, fmt.Sprintf("0 (1 MiB) or at least %d", smallestSendLimit)))
	fs.Func("idle",
		"`time` after which a client that sends nothing is disconnected, such as 90s or 5m.\n0, the default: never.",
		duration(&c.idle, "0 (never) or a time with its unit, such as 90s"))
	fs.Func("stats",
		"`time` between status lines on standard output, such as 1s; on a terminal the line is\nredrawn in place. A msg is one receive or one send of the handler, MB is 1,000,000 bytes.\n0, the default: no status line.",
		duration(&c.stats, "0 (off) or a time with its unit, such as 1s"))
	fs.Func("log-level",
		"least `level` that reaches the log on standard error: debug, info (the default), warn, error.",
		func(s string) error {
			if c.logLevel.UnmarshalText([]byte(s)) != nil {
				return errors.New("use debug, info, warn or error")
			}
			return nil
		})
	fs.Func("drain",
		fmt.Sprintf("`time` for which the sessions of a server that was replaced (SIGUSR2) may go on before they\nare disconnected, %v by default. 0: at once.", defaultDrain),
		duration(&c.drain, "0 (at once) or a time with its unit, such as 90s"))
	fs.StringVar(&c.file, configFlag, "",
		"a TOML `file` with settings by the names of these flags, such as max-sessions = 1000 or\nidle = \"90s\".")
	return fs
}

// number reads 0, which stands for a default, or a number of at least least.
func number(p *int, least int, use string) func(string) error {
	return func(s string) error {
		n, err := strconv.Atoi(s)
		if err != nil || n != 0 && n < least {
			return errors.New("use " + use)
		}
		*p = n
		return nil
	}
}

// duration reads a time that is not negative.
func duration(p *time.Duration, use string) func(string) error {
	return func(s string) error {
		d, err := time.ParseDuration(s)
		if err != nil || d < 0 {
			return errors.New("use " + use)
		}
		*p = d
		return nil
	}
}

// parseFlags reads the command line, and what completes it. Its error says what to change, or is flag.ErrHelp.
func parseFlags(args, environ []string) (*config, error) {
	c := new(config)
	fs := flagSet(c)
	if err := fs.Parse(args); err != nil {
		return nil, err
	}
	if fs.NArg() > 0 {
		return nil, fmt.Errorf("unexpected argument %q: everything is set by flags, such as -addr :7777", fs.Arg(0))
	}
	if err := complete(fs, environ, &c.file); err != nil {
		return nil, err
	}
	var err error
	c.network, c.address, err = parseAddr(c.addr)
	return c, err
}

// parseAddr takes the value of -addr apart into what Engine.Listen expects.
func parseAddr(s string) (network, address string, err error) {
	if path, ok := strings.CutPrefix(s, "unix:"); ok {
		switch {
		case path == "":
			return "", "", fmt.Errorf("-addr %q has no path: use unix:PATH, such as unix:/tmp/echo.sock", s)
		case strings.ContainsRune(path, 0):
			return "", "", fmt.Errorf("-addr %q: a path cannot hold a zero byte", s)
		}
		return "unix", path, nil
	}
	_, port, err := net.SplitHostPort(s)
	if err != nil {
		return "", "", fmt.Errorf("-addr %q: use host:port, such as :7777, 127.0.0.1:7777 or [::1]:7777, or unix:PATH", s)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return "", "", fmt.Errorf("-addr %q: the port must be a number from 0 to 65535 (0: any free one)", s)
	}
	return "tcp", s, nil
}

// formatAddr writes an address the way -addr takes it.
func formatAddr(a net.Addr) string {
	if a.Network() == "unix" {
		return "unix:" + a.String()
	}
	return a.String()
}

func helpText() string {
	var b strings.Builder
	b.WriteString(`echoserver listens and, unless -mode says otherwise, sends back what it receives.

  echoserver                                  echo on port 7777
  echoserver -addr unix:/tmp/echo.sock        echo on a unix socket
  echoserver -mode broadcast -stats 1s        a chat for nc, with a status line
  nc 127.0.0.1 7777                           a client

SIGINT (Ctrl-C), SIGTERM or SIGHUP stops accepting, delivers what is queued and exits, within ` + drainTimeout.String() + `.
A second SIGINT or SIGTERM aborts at once. Under nohup SIGHUP does nothing.

SIGUSR2 restarts it and refuses nobody: the program is started anew with the same arguments and takes the listening
sockets over; when it accepts, the old process stops accepting, serves its sessions for -drain more and exits. If the
new one does not come up, the old one says why and goes on. As the first process of a container the old one stays until the
new one has ended. Systemd is told of all this, and may hand the sockets in (then -addr is not used).

Exit codes: 0 stopped on request; 1 could not listen, failed, or was aborted; 2 bad flags.

Each setting is a flag, or else a variable (ECHOSERVER_MAX_SESSIONS for -max-sessions), or else a line in the
file of -config.

Flags:
`)
	fs := flagSet(new(config))
	fs.SetOutput(&b)
	fs.VisitAll(func(f *flag.Flag) { f.Usage += "\n" + variable(f.Name) })
	fs.PrintDefaults()
	return b.String()
}
