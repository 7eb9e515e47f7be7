// Package echoserver is the reference server of this module: the engine with four small handlers, and a flag for every limit. Command
// echoserver is a thin main around it. It is a package so that netbench can run the same server for its demo.
//
//	echoserver.go   Main: flags, start, help
//	settings.go     settings from the environment and a file
//	modes.go        the handlers of -mode
//	service.go      the life of the process: serving, restart, stop
//	signals.go      which signal does what
//	tls.go          TLS: the settings, the certificate of -tls-self-signed
//	ws.go           WebSocket: the settings
//	certfiles.go    a certificate in files that may change
//	recorder.go     -record, and SIGUSR1
//	heap.go         how often the garbage collector runs
//	tickets.go      the keys of session tickets, and their hand-over
//	restart.go      the hand-over from one process to the next (SIGUSR2)
//	manager.go      the service manager: readiness, watchdog, sockets
//	supervise.go    the first process of a container after a restart
//	children.go     reaping of child processes
//	status.go       the status line and the log on a terminal
//	output.go       writers that never block
//	observe.go      -observe: the server of the pages that show the engine
package echoserver

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/servercore-go/servercore/engine"
)

// Exit codes. A stop that a second signal has aborted is a fault: replies may have been cut off.
const (
	exitOK    = 0
	exitFault = 1
	exitUsage = 2
)

// drainTimeout is the longest time of a stop, for each session (Options.DrainTimeout) and for all of them together.
const drainTimeout = 10 * time.Second

// defaultDrain is how long the sessions of a replaced process may go on, by default.
const defaultDrain = time.Minute

// Main is the whole program. It serves until ctx ends or a signal asks it to stop, then drains and returns the exit code.
//
// args are the arguments after the program's name. environ is the environment, as os.Environ returns it. It is nil for a server inside
// another program: such a server reads no settings from the environment, has no service manager, cannot be restarted, and handles no
// signals but SIGINT and SIGTERM.
//
// The first lines on stdout are "listening on ADDRESS", one for each socket, in the form that -addr takes. The status line follows
// there. The log goes to stderr. A reader that does not read stdout or stderr blocks nothing. It only delays the return of Main, by
// flushTime at most; a write that hangs goes on after that.
func Main(ctx context.Context, args, environ []string, stdout, stderr io.Writer) int {
	return MainWithPages(ctx, nil, args, environ, stdout, stderr)
}

// MainWithPages is Main for a program that has pages to serve on -observe. Without pages, -observe is an error.
//
// After the addresses, stdout gets "observe on http://ADDRESS/", or "observe on unix:PATH". The pages end after the engine has, so that
// they show how it drains. At a restart the new process takes their socket over, and the old one serves none while it drains.
func MainWithPages(ctx context.Context, pages Pages, args, environ []string, stdout, stderr io.Writer) int {
	whole := environ != nil
	caught := catchSignals(whole) // first, so that no early signal is lost
	defer caught.release(whole)
	screen := newScreen(stdout, stderr)
	defer screen.close(flushTime)

	before, err := findPredecessor(environ)
	if err != nil {
		fmt.Fprintf(screen.err, "echoserver: %v\n", err)
		return exitFault
	}
	s, code := caught.during(ctx, before, screen, func() (*service, int) { return prepare(args, environ, before, pages, screen) })
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
	defer s.recorder.close()
	defer s.pages.close()
	return s.run(ctx)
}

// prepare starts the server. It returns nil and the exit code if there is nothing to run.
func prepare(args, environ []string, before *predecessor, pages Pages, screen *screen) (*service, int) {
	cfg, err := parseFlags(args, environ)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(screen.out, helpText())
		return nil, exitOK
	case err != nil:
		return nil, usage(screen.err, err)
	}
	if cfg.observe != "" && pages == nil {
		return nil, usage(screen.err, errors.New("-observe: this program has no pages to serve; use cmd/echoserver"))
	}
	level := new(slog.LevelVar)
	level.Set(cfg.logLevel)
	log := slog.New(slog.NewTextHandler(screen.log(), &slog.HandlerOptions{Level: level}))
	e, err := engine.New(cfg.options(log))
	if err != nil {
		return nil, usage(screen.err, err)
	}
	s := &service{config: cfg, Engine: e, log: log, manager: newManager(environ, log), predecessor: before}
	if environ != nil {
		s.children, s.chain = newChildren(), newChain(environ)
		if err := s.inherit(); err != nil {
			fmt.Fprintf(screen.err, "echoserver: %v\n", err)
			return nil, exitFault
		}
	}
	if s.tls, err = newTLS(cfg, s.secrets, log); err != nil {
		return nil, usage(screen.err, err)
	}
	if s.tls != nil {
		paceHeap()
	}
	if s.recorder, err = newRecorder(cfg, before != nil, environ != nil, log); err != nil {
		return nil, usage(screen.err, err)
	}
	if err := s.listen(); err != nil {
		s.recorder.close()
		return nil, usage(screen.err, err)
	}
	if err := s.start(environ); err != nil {
		s.recorder.close()
		fmt.Fprintf(screen.err, "echoserver: %v\n", err)
		return nil, exitFault
	}
	for _, socket := range s.sockets {
		_ = socket.file.Close() // the engine has a duplicate
	}
	for _, l := range s.listeners {
		fmt.Fprintf(screen.out, "listening on %s\n", formatAddr(l.Addr()))
	}
	if s.pages != nil {
		s.pages.serve(pages(e, PagesOptions{Admin: cfg.observeAdmin, Token: lookup(environ, observeToken), Level: level, Logger: log}), log)
		s.pages.say(screen.out)
	}
	return s, exitOK
}

func usage(stderr io.Writer, err error) int {
	fmt.Fprintf(stderr, "echoserver: %v\nRun echoserver -h for every flag and what it takes.\n", err)
	return exitUsage
}

// config is the validated command line.
type config struct {
	addr             string // value of -addr
	network, address string // the parts of addr, for Engine.Listen
	loops            int
	mode             string
	maxSessions      int
	sendLimit        int
	idle, keepAlive  time.Duration
	stats            time.Duration
	logLevel         slog.Level
	drain            time.Duration
	tlsCert, tlsKey  string
	tlsSelfSigned    bool
	ws               string // path, "" for none
	record           string // file, "" for none
	recordRing       int    // MiB, 0 for none
	observe          string // value of -observe, "" for none
	observeAdmin     bool
	file             string

	observeNetwork, observeAddress string // the parts of observe, for net.Listen
}

// smallestSendLimit is the smallest value of -send-limit, in bytes. Reading pauses at a quarter of the limit, and one OnRecv brings up
// to 64 KiB. With a smaller limit, the Send of an echo could fail.
const smallestSendLimit = 128 << 10

func (c *config) options(log *slog.Logger) engine.Options {
	return engine.Options{
		Loops:        c.loops,
		MaxSessions:  c.maxSessions,
		SendLimit:    c.sendLimit,
		IdleTimeout:  c.idle,
		KeepAlive:    c.keepAlive,
		DrainTimeout: drainTimeout,
		Logger:       log,
	}
}

// flagSet binds the flags to c and sets their defaults. The flag set prints nothing; the caller does.
func flagSet(c *config) *flag.FlagSet {
	*c = config{addr: ":7777", mode: "echo", logLevel: slog.LevelInfo, drain: defaultDrain}
	fs := flag.NewFlagSet("echoserver", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.Usage = func() {}

	fs.StringVar(&c.addr, "addr", c.addr,
		"where to listen: `host:port`, or unix:PATH for a unix socket. Without a host, the server listens\non every address of this machine. With port 0, it chooses a free port.")
	fs.Func("loops",
		"`number` of event loops. The default 0 stands for one for each CPU that the program may use.",
		number(&c.loops, 1, "0 (one for each CPU) or a positive number"))
	fs.Func("mode", modeHelp(), func(s string) error {
		if _, known := modes[s]; !known {
			return errors.New("use " + modeNames("or"))
		}
		c.mode = s
		return nil
	})
	fs.Func("max-sessions",
		"largest `number` of sessions at a time. Connections beyond it are closed at once.\nThe default 0 stands for what the limit on open files (ulimit -n) allows.",
		number(&c.maxSessions, 1, "0 (as many as open files allow) or a positive number"))
	fs.Func("send-limit",
		fmt.Sprintf("largest number of `bytes` that may be queued for one slow client, %d or more. While a quarter\nof that is queued for a client, the server does not read from it. The default 0 stands for\n1048576 (1 MiB).", smallestSendLimit),
		number(&c.sendLimit, smallestSendLimit, fmt.Sprintf("0 (1 MiB) or at least %d", smallestSendLimit)))
	fs.Func("idle",
		"`time` after which a client that sends nothing is disconnected, such as 90s or 5m.\nThe default 0 stands for never.",
		duration(&c.idle, "0 (never) or a time with its unit, such as 90s"))
	fs.Func("keep-alive",
		"`time` of silence after which TCP asks a client whether it is still there, such as 5m. With very many\nsilent clients the questions are work: their number each second is that of clients by this time.\nThe default 0 stands for 15s.",
		duration(&c.keepAlive, "0 (15s) or a time with its unit, such as 5m"))
	fs.Func("stats",
		"`time` between status lines on standard output, such as 1s. On a terminal the line is redrawn in\nplace. A msg is one receive or one send of the handler; 1 MB is 1,000,000 bytes.\nThe default 0 stands for no status line.",
		duration(&c.stats, "0 (off) or a time with its unit, such as 1s"))
	fs.Func("log-level",
		"lowest `level` of records in the log on standard error: debug, info (the default), warn or error.",
		func(s string) error {
			if c.logLevel.UnmarshalText([]byte(s)) != nil {
				return errors.New("use debug, info, warn or error")
			}
			return nil
		})
	fs.Func("drain",
		fmt.Sprintf("`time` after a restart (SIGUSR2) for which the sessions of the old process may go on before they\nare disconnected, such as 90s. The default is %v; 0 stands for at once.", defaultDrain),
		duration(&c.drain, "0 (at once) or a time with its unit, such as 90s"))
	fs.StringVar(&c.tlsCert, "tls-cert", "",
		"PEM `file` with a certificate, and those between it and its root: the server speaks TLS. The file,\nand that of -tls-key, are read again when they have changed; a pair that does not fit is refused\nwith a line in the log, and the one before stays.")
	fs.StringVar(&c.tlsKey, "tls-key", "", "PEM `file` with the key of -tls-cert.")
	fs.BoolVar(&c.tlsSelfSigned, "tls-self-signed", false,
		"speak TLS with a new certificate for localhost, 127.0.0.1, ::1 and the name of this machine, valid\nfor a year. The log has its SHA-256, which netbench -tls-pin takes. A restart keeps it.")
	fs.Func("ws",
		"`path` of a URL, such as /ws: clients speak WebSocket, with TLS wss. Other paths are answered 404, and\npages of other hosts 403. One send is one message. A client's message may have half of -send-limit.\nMode echo answers text with text.",
		parsePath(&c.ws))
	fs.StringVar(&c.record, "record", "",
		"`file` to record all that clients send and get to, above TLS, for Wireshark and netreplay. It is emptied\nif it exists. The process after a restart adds its number to the name.")
	fs.Func("record-ring",
		"`MiB` of the recording to keep in memory instead. SIGUSR1 writes them to the file of -record, with the\ntime in its name. The default 0 stands for writing everything at once.",
		number(&c.recordRing, 1, "0 (write everything) or a positive number of MiB"))
	c.observeFlags(fs)
	fs.StringVar(&c.file, configFlag, "",
		"TOML `file` with settings. Its keys are the names of these flags, such as max-sessions = 1000 or\nidle = \"90s\".")
	return fs
}

// number returns a parser of 0, which stands for a default, or a number of at least least. use says in an error what is allowed.
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

// duration returns a parser of a time that is not negative. use says in an error what is allowed.
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

// parseFlags reads the command line, the environment and the settings file. Its error says what to change, or is flag.ErrHelp.
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
	if c.recordRing > 0 && c.record == "" {
		return nil, errors.New("-record-ring needs -record: what SIGUSR1 writes needs a name")
	}
	var err error
	if c.network, c.address, err = parseAddr("addr", c.addr); err != nil {
		return nil, err
	}
	return c, c.parseObserve()
}

// parseAddr splits the value of a flag, such as -addr, into the network and the address to listen on.
func parseAddr(flag, s string) (network, address string, err error) {
	if path, ok := strings.CutPrefix(s, "unix:"); ok {
		switch {
		case path == "":
			return "", "", fmt.Errorf("-%s %q has no path: use unix:PATH, such as unix:/tmp/echo.sock", flag, s)
		case strings.ContainsRune(path, 0):
			return "", "", fmt.Errorf("-%s %q: a path cannot contain a zero byte", flag, s)
		}
		return "unix", path, nil
	}
	_, port, err := net.SplitHostPort(s)
	if err != nil {
		return "", "", fmt.Errorf("-%s %q: use host:port, such as :7777, 127.0.0.1:7777 or [::1]:7777, or unix:PATH", flag, s)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return "", "", fmt.Errorf("-%s %q: the port must be a number from 0 to 65535 (0: any free one)", flag, s)
	}
	return "tcp", s, nil
}

// formatAddr returns an address in the form that -addr takes.
func formatAddr(a net.Addr) string {
	if a.Network() == "unix" {
		return "unix:" + a.String()
	}
	return a.String()
}

func helpText() string {
	var b strings.Builder
	b.WriteString(`echoserver is a TCP server that sends back what it receives. -mode makes it do something else.

  echoserver                                  echo on port 7777
  echoserver -addr unix:/tmp/echo.sock        echo on a unix socket
  echoserver -mode broadcast -stats 1s        a chat for nc, with a status line
  nc 127.0.0.1 7777                           a client
  echoserver -tls-self-signed                 TLS, with a certificate made for this machine
  echoserver -ws /ws                          WebSocket at ws://127.0.0.1:7777/ws
  echoserver -observe 127.0.0.1:9100          what it does, at http://127.0.0.1:9100/

Signals:
  SIGINT (Ctrl-C), SIGTERM, SIGHUP   stop accepting, deliver what is queued, and exit within ` + drainTimeout.String() + `
  a second SIGINT or SIGTERM         reset every session and exit at once
  SIGHUP under nohup                 nothing
  SIGUSR1                            with -record-ring, write what it has
  SIGUSR2                            restart without refusing a connection

A restart starts the program again with the same arguments. The new process takes the listening sockets over. When it
accepts, the old process stops accepting, serves its sessions for up to -drain, and exits. If the new process does not
start, the old one logs the reason and goes on. The first process of a container stays until the new one has ended.
With TLS, the new process gets the keys of the session tickets, so that clients resume their sessions.

Under systemd, the server reports readiness, restarts and stops, and serves the watchdog. It may get its listening
sockets from a socket unit; then -addr is not used.

Exit codes: 0 stopped on request; 1 could not listen, failed, or was aborted; 2 bad flags, or a bad certificate.

A setting comes from its flag, or else from its environment variable (ECHOSERVER_MAX_SESSIONS for -max-sessions), or
else from the file of -config.

Flags:
`)
	fs := flagSet(new(config))
	fs.SetOutput(&b)
	fs.VisitAll(func(f *flag.Flag) { f.Usage += "\n" + variable(f.Name) })
	fs.PrintDefaults()
	return b.String()
}
