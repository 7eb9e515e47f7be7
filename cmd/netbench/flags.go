package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/servercore-go/servercore/bench"
)

// config is the validated command line.
type config struct {
	plan             bench.Plan
	json, hgrm, html string
	quiet            bool
	table            bool // show the table
}

// A command is one sub-command that loads a server.
type command struct {
	name     string
	about    string   // one line for the overview
	text     string   // description for its -h
	examples []string // arguments after "netbench NAME -addr 127.0.0.1:7777"
	flags    []string // besides the common ones
}

var commands = []command{
	{
		name: "echo", about: "closed loop: send the next message when the reply has come",
		text: "Measures how many messages per second a server echoes if each connection always has -depth messages in flight.\n" +
			"The latency of such a load says little about independent users: use netbench rate for that.",
		examples: []string{"", "-conns 1000 -size 4096 -duration 30s", "-conns 16 -depth 16      # pipelined", "-ws /ws -ws-text         # WebSocket"},
		flags:    []string{"depth"},
	},
	{
		name: "rate", about: "open loop: send messages at a fixed rate",
		text: "Measures latency at a load that does not depend on the server. There are two latencies: \"planned\" counts from the\n" +
			"time at which a message was due, \"reply\" from the time at which it left. A message waits while -depth messages are in\n" +
			"flight on its connection, so a server that stalls shows in planned and not in reply. Throughput counts the replies that\n" +
			"came within the measured part. If they are clearly fewer than asked for, the first line says BEHIND.",
		examples: []string{"-rate 20000", "-rate 20000 -arrival poisson -conns 500", "-rate 5000 -json run.json -html run.html -hgrm run.hgrm"},
		flags:    []string{"rate", "arrival", "depth"},
	},
	{
		name: "churn", about: "connect, exchange messages, close, and connect again",
		text: "Measures how many connections per second a server accepts and serves. The client closes the connections, so its ports\n" +
			"stay in TIME_WAIT for a minute: use -sources for more ports, or -linger0 to close with a reset.\n" +
			"With -tls it measures handshakes: full ones, or with -tls-resume resumed ones. With -ws it measures upgrades.",
		examples: []string{"-conns 50", "-conns 50 -sources 8", "-conns 50 -messages 10 -linger0", "-conns 50 -tls -tls-ca ca.pem -tls-resume", "-conns 50 -ws /ws"},
		flags:    []string{"messages", "linger0", "tls-resume"},
	},
	{
		name: "idle", about: "hold many connections, some of them active",
		text: "Holds -conns connections open. -active of them together exchange -rate messages per second. With -pid, the server's\n" +
			"memory per connection is reported. For more than 28,000 connections use -sources. With -echo-all each connection\n" +
			"exchanges one message before the load, so that each is known to be served.",
		examples: []string{"-conns 10000", "-conns 10000 -active 100 -rate 1000 -pid 4711", "-conns 50000 -sources 4 -echo-all"},
		flags:    []string{"active", "rate", "echo-all"},
	},
	{
		name: "fanout", about: "send from one publisher to many subscribers",
		text: "For servers that send what one client sends to every other client, such as echoserver -mode broadcast. One\n" +
			"connection publishes, -conns subscribe. The publisher sends the next message when all subscribers have got the one\n" +
			"before. With -stream it does not wait, but stays at most -window bytes ahead of the slowest subscriber. With -rate it\n" +
			"sends at planned times, and latency counts from these, also for a message that has to wait for the window.\n\n" +
			"For servers on several nodes, -subscribe has the addresses of the subscribers, and -addr that of the publisher. What\n" +
			"came at each address is told by itself: deliveries, latency, and which messages were lost, doubled or out of order.\n" +
			"Publisher and subscribers are connections of this one process and have one clock, so latencies are right whatever\n" +
			"clocks the nodes have. To nodes on other machines they include the network from here and back.",
		examples: []string{"-conns 1000", "-conns 100 -size 32 -stream", "-conns 100 -stream -window 65536", "-conns 1000 -rate 100",
			"-conns 3000 -rate 100 -subscribe 127.0.0.1:7777,127.0.0.1:7778,127.0.0.1:7779"},
		flags: []string{"subscribe", "rate", "arrival", "stream", "window"},
	},
	{
		name: "ramp", about: "add connections at a fixed rate",
		text: "Adds -connect-rate connections per second up to -conns. Each connection sends a message every -every. Shows how long\n" +
			"connects take, and which fail, while a server fills up.",
		examples: []string{"-conns 5000 -connect-rate 1000", "-conns 20000 -connect-rate 5000 -sources 4 -every 5s"},
		flags:    []string{"connect-rate", "every"},
	},
	{
		name: "search", about: "find the highest rate whose p99 stays under a limit",
		text: "Begins with -rate and doubles it until a step fails: the 99th percentile of the latency from the planned time reaches\n" +
			"-p99, or there are errors, or the server does not keep up. Then halves the distance between the highest rate that\n" +
			"passed and the lowest that failed. Each step measures for -step. The figures are those of the best step; all steps\n" +
			"are listed.",
		examples: []string{"-p99 5ms", "-p99 1ms -conns 1000 -step 5s", "-rate 50000 -p99 2ms -arrival poisson"},
		flags:    []string{"p99", "rate", "step", "arrival", "depth"},
	},
}

func find(name string) (*command, bool) {
	for i := range commands {
		if commands[i].name == name {
			return &commands[i], true
		}
	}
	return nil, false
}

// common are the flags of every command that loads a server. ramp ignores -warmup.
var common = []string{"addr", "conns", "size", "duration", "warmup", "threads", "sources", "timeout", "seed", "pid",
	"tls", "tls-pin", "tls-ca", "tls-name", "ws", "ws-text", "json", "hgrm", "html", "quiet"}

// define binds all flags to c. flagSet selects those of the command.
func define(fs *flag.FlagSet, c *config) {
	p := &c.plan
	d := p.WithDefaults()
	fs.StringVar(&p.Addr, "addr", "", "address of the server: `host:port`, or unix:PATH. Required. If the host has several addresses,\nall connections go to the first that works. :port and localhost:port stand for 127.0.0.1 and ::1.")
	// say returns the help text for the command: special if its mode is the given one, usual otherwise.
	say := func(usual string, mode bench.Mode, special string) string {
		if p.Mode == mode {
			return special
		}
		return usual
	}
	fs.IntVar(&p.Conns, "conns", d.Conns, say("`number` of connections.", bench.Fanout, "`number` of subscribers."))
	fs.IntVar(&p.Size, "size", d.Size, fmt.Sprintf("size of a message in `bytes`, 1 to %d. A message of 16 bytes or more has a header, which\ndistinguishes lost messages from wrong bytes.", bench.MaxSize))
	fs.DurationVar(&p.Duration, "duration", d.Duration,
		say("`time` of the measured part, such as 30s or 2m.", bench.Search, "longest `time` of the whole search, such as 30s or 2m."))
	fs.DurationVar(&p.Warmup, "warmup", d.Warmup,
		say("`time` of load before the measured part.", bench.Search, "`time` of load before the measured part of each step, not longer than -step."))
	fs.IntVar(&p.Threads, "threads", d.Threads, "`number` of reactors, each on its own thread. The default is half of the cores that this process\nmay use, by its CPU quota and affinity.")
	fs.IntVar(&p.Sources, "sources", 0, "`number` of source addresses, from 127.0.0.2 on, used in turn. Each has about 28,000 ports.\nOnly for servers on a 127.x.x.x address. With 0 the system chooses the address.")
	fs.DurationVar(&p.Timeout, "timeout", d.Timeout, "`time` after which a connect fails and a reply is late. It is also the longest wait for replies\nat the end.")
	fs.Uint64Var(&p.Seed, "seed", d.Seed, "`number` from which the bytes sent and the Poisson arrivals are made.")
	fs.IntVar(&p.PID, "pid", 0, "process `id` of the server, if it runs on this machine. Its CPU time and memory are reported.")
	fs.BoolVar(&p.TLS, "tls", false, "speak TLS. The server's certificate must be valid for the host of -addr (localhost if it has none)\nand come from an authority that this system trusts, or see -tls-pin and -tls-ca. Handshakes are\ncounted and timed by themselves. They and the encryption compute on the reactors: the client uses\nabout as much CPU as the server, and a reactor's handshakes delay its other connections.")
	fs.StringVar(&p.TLSPin, "tls-pin", "", "`SHA-256` of the server's certificate, in hexadecimal. The certificate must be this one, and need not\nfulfil anything else. echoserver -tls-self-signed logs it.")
	fs.StringVar(&p.TLSCA, "tls-ca", "", "PEM `file` of the authorities to trust in place of the system's.")
	fs.StringVar(&p.TLSName, "tls-name", "", "`name` of the server, such as example.org, for SNI and for its certificate, if it is not the host of -addr.")
	fs.StringVar(&p.WS, "ws", "", "speak WebSocket, and with -tls wss, at this `path` of a URL, such as /ws. -size is the payload of a message.\nThe server must answer a message with one message, in any number of frames. Upgrades are counted and\ntimed by themselves.")
	fs.BoolVar(&p.WSText, "ws-text", false, "send text messages. Their bytes are ASCII. Without it messages are binary.")
	fs.BoolVar(&p.TLSResume, "tls-resume", false, "resume TLS sessions. Each reactor remembers the last one.")
	fs.IntVar(&p.Depth, "depth", d.Depth, "largest `number` of messages in flight on each connection.")
	rate := say("`number` of messages per second, all connections together.", bench.Search, "`number` of messages per second in the first step.")
	fs.Float64Var(&p.Rate, "rate", d.Rate, say(rate, bench.Fanout, "`number` of messages per second that the publisher sends. Without it, it sends as the subscribers get them."))
	fs.StringVar(&p.Subscribe, "subscribe", "", fmt.Sprintf("`addresses` of the subscribers, separated by commas, %d at most, each as -addr. They take turns.\nThe default is -addr.", bench.MaxTargets))
	fs.StringVar(&p.Arrival, "arrival", d.Arrival, "`name` of the distribution of the planned times: uniform (equal gaps) or poisson (like many\nindependent clients).")
	fs.IntVar(&p.Messages, "messages", d.Messages, "`number` of messages on each connection.")
	fs.BoolVar(&p.Linger0, "linger0", false, "close with a reset, which leaves no port in TIME_WAIT.")
	fs.IntVar(&p.Active, "active", 0, "`number` of connections that exchange messages.")
	fs.BoolVar(&p.EchoAll, "echo-all", false, "exchange one message on each connection before the load.")
	fs.Float64Var(&p.ConnectRate, "connect-rate", d.ConnectRate, "`number` of new connections per second.")
	fs.DurationVar(&p.Every, "every", d.Every, "`time` between two messages of one connection.")
	fs.BoolVar(&p.Stream, "stream", false, "send without waiting for the subscribers, see -window.")
	fs.IntVar(&p.Window, "window", d.Window, "with -stream or -rate: largest number of `bytes` that the publisher is ahead of the slowest subscriber.")
	fs.DurationVar(&p.P99, "p99", d.P99, "`time` under which the 99th percentile of latency must stay.")
	fs.DurationVar(&p.Step, "step", d.Step, "`time` of the measured part of each step.")
	fs.StringVar(&c.json, "json", "", "`file` for the result as JSON, as bench/schema.json describes it. - stands for standard output, in\nplace of the table.")
	fs.StringVar(&c.hgrm, "hgrm", "", "`file` for the latency distribution in HdrHistogram's text format.")
	fs.StringVar(&c.html, "html", "", "`file` for the result as one self-contained HTML page with charts.")
	fs.BoolVar(&c.quiet, "quiet", false, "show no progress and no table. The exit code still reports errors.")
}

// flagSet returns the flags of the command, bound to c.
func (cmd *command) flagSet(c *config) *flag.FlagSet {
	c.plan.Mode = bench.Mode(cmd.name)
	all := flag.NewFlagSet(cmd.name, flag.ContinueOnError)
	define(all, c)
	own := flag.NewFlagSet(cmd.name, flag.ContinueOnError)
	own.SetOutput(io.Discard)
	own.Usage = func() {}
	all.VisitAll(func(f *flag.Flag) {
		if slices.Contains(common, f.Name) || slices.Contains(cmd.flags, f.Name) {
			own.Var(f.Value, f.Name, f.Usage)
		}
	})
	return own
}

// parse reads the command line. Its error says what to change, or is flag.ErrHelp.
func parse(cmd *command, args []string) (*config, error) {
	c := &config{table: true}
	fs := cmd.flagSet(c)
	if err := fs.Parse(args); err != nil {
		return nil, err
	}
	if fs.NArg() > 0 {
		return nil, fmt.Errorf("unexpected argument %q: everything is set by flags", fs.Arg(0))
	}
	if c.plan.Addr == "" {
		return nil, errors.New("-addr is missing: say where the server listens, such as -addr 127.0.0.1:7777")
	}
	// A zero in a plan stands for the default. A zero on the command line does not: refuse it.
	var err error
	fs.Visit(func(f *flag.Flag) {
		switch f.Name {
		case "conns", "size", "threads", "depth", "rate", "messages", "connect-rate", "window", "duration", "timeout", "every", "p99", "step":
			if v := f.Value.String(); err == nil && (v == "0" || v == "0s" || strings.HasPrefix(v, "-")) {
				err = &bench.PlanError{Field: f.Name, Value: v, Advice: "use a positive value, or leave it out for the default"}
			}
		case "warmup":
			if c.plan.Warmup == 0 {
				c.plan.Warmup = -1
			} else if c.plan.Warmup < 0 {
				err = &bench.PlanError{Field: f.Name, Value: f.Value.String(), Advice: "use 0 or a positive time"}
			}
		}
	})
	if err == nil {
		err = c.plan.Validate()
	}
	return c, err
}

func (cmd *command) helpText() string {
	var b strings.Builder
	fmt.Fprintf(&b, "netbench %s: %s\n\n%s\n\n", cmd.name, cmd.about, cmd.text)
	for _, e := range cmd.examples {
		fmt.Fprintf(&b, "  %s\n", strings.TrimSpace("netbench "+cmd.name+" -addr 127.0.0.1:7777 "+e))
	}
	b.WriteString("\n" + exitText + "\nFlags of " + cmd.name + ":\n")
	print := func(names []string) {
		fs := flag.NewFlagSet("", flag.ContinueOnError)
		fs.SetOutput(&b)
		cmd.flagSet(new(config)).VisitAll(func(f *flag.Flag) {
			if slices.Contains(names, f.Name) {
				fs.Var(f.Value, f.Name, f.Usage)
			}
		})
		fs.PrintDefaults()
	}
	print(cmd.flags)
	b.WriteString("\nCommon flags:\n")
	print(common)
	return b.String()
}

const exitText = `Every byte that comes back is verified. Ctrl-C ends a run early and reports what was measured until then.
Exit codes: 0 no errors; 1 could not run; 2 bad flags; 3 the run met errors, which its first line counts.
Files are written after the run. A run that fails leaves existing files unchanged.
`

func overview() string {
	var b strings.Builder
	b.WriteString("netbench loads a TCP server, checks every byte that comes back, and reports throughput, latency and cost.\n\n" +
		"  netbench                                         a demo of ten seconds, and a page with charts\n" +
		"  go run ./cmd/echoserver                          a server to load, on port 7777\n" +
		"  netbench echo -addr 127.0.0.1:7777               the highest throughput\n" +
		"  netbench rate -addr 127.0.0.1:7777 -rate 10000   the latency at a given rate\n\nCommands:\n")
	for _, c := range commands {
		fmt.Fprintf(&b, "  %-8s %s\n", c.name, c.about)
	}
	b.WriteString("  compare  compare results that -json has written\n" +
		"  demo     start a server and load it in seven ways; the default without a command\n\n" +
		"netbench COMMAND -h has examples and every flag.\n\n" + exitText)
	return b.String()
}
