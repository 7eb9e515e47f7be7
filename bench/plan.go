package bench

import (
	"cmp"
	"fmt"
	"math"
	"net"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// Mode names a kind of load.
type Mode string

// The modes.
const (
	Echo   Mode = "echo"   // closed loop: the next message leaves when a reply has come
	Rate   Mode = "rate"   // open loop: messages leave when they are due
	Churn  Mode = "churn"  // connect, send, receive, close, again
	Idle   Mode = "idle"   // hold connections, some of them active
	Fanout Mode = "fanout" // one publisher, many subscribers
	Ramp   Mode = "ramp"   // add connections at a rate
	Search Mode = "search" // the highest rate whose p99 stays under a limit
)

// Arrivals: how the planned send times of an open loop are spread.
const (
	Uniform = "uniform" // equal gaps
	Poisson = "poisson" // exponential gaps: independent clients
)

// Limits of a plan.
const (
	MaxSize    = 16 << 20
	MaxConns   = 1 << 20
	MaxDepth   = 1 << 16
	MaxRate    = 100e6
	MaxSources = 250
	MaxTargets = 16 // addresses of Plan.Subscribe
)

// Plan describes one run: which server to load, and how. A mode ignores the fields that it does not use. A zero value of any field except
// Mode and Addr stands for the default in its comment. A Plan is a plain value.
type Plan struct {
	Mode Mode
	// Addr is host:port, or unix:PATH. If a host has several addresses, they are tried in turn, IPv4 first, and all
	// connections go to the first that works. No host, and localhost, are 127.0.0.1 and ::1.
	Addr string

	Conns    int           // connections; for fanout, subscribers. 64; for ramp and idle 1000; for fanout 100
	Size     int           // bytes of a message, 1 to MaxSize. 64
	Duration time.Duration // of the measured part. 10 s; for search, the most the whole search may take: 2 min
	Warmup   time.Duration // load before the measured part. 1 s; a negative value stands for none
	Threads  int           // reactors, each on a thread of its own. Half of GOMAXPROCS, so that a local server has the rest
	Sources  int           // source addresses 127.0.0.2 and up; 0 leaves the choice to the system
	Timeout  time.Duration // of a connect and of a reply; also the longest wait for replies at the end. 5 s
	Seed     uint64        // of the bytes sent and of Poisson arrivals. 1

	Depth       int           // echo, rate, search: messages in flight per connection. 1
	Rate        float64       // rate: messages per second in all; search: the first rate tried. 1000. idle: of the active ones. 100. fanout: of the publisher; 0: as fast as the subscribers get them
	Arrival     string        // rate, search, fanout with Rate: Uniform or Poisson. Uniform
	Messages    int           // churn: messages per connection. 1
	Linger0     bool          // churn: close with a reset, which leaves no port in TIME_WAIT
	Active      int           // idle: connections that exchange messages. 0
	EchoAll     bool          // idle: each connection exchanges one message before the load, those that are not active too
	ConnectRate float64       // ramp: new connections per second. 500
	Every       time.Duration // ramp: time between two messages of one connection. 1 s
	Stream      bool          // fanout: the publisher does not wait for the round to end
	Window      int           // fanout with Stream or Rate: bytes the publisher may be ahead of the slowest subscriber. 256 KiB
	Subscribe   string        // fanout: addresses as Addr, separated by commas, to which the subscribers connect in turn. "" stands for Addr
	P99         time.Duration // search: the limit. 5 ms
	Step        time.Duration // search: measured part of each step. 2 s

	TLS       bool   // speak TLS. The server's certificate must be valid for the host of Addr, localhost if it has none
	TLSPin    string // SHA-256 of the server's certificate, in hexadecimal: it is enough that the certificate is this one
	TLSCA     string // PEM file of the certificates to trust. "" stands for those of the system
	TLSResume bool   // resume sessions, where there was one before: churn
	TLSName   string // name of the server for SNI, for its certificate and, with WS, for the header Host. "" stands for the host of Addr

	WS     string // speak WebSocket (RFC 6455): the path of the URL, with a query if it needs one. "" stands for none
	WSText bool   // text messages, whose bytes are ASCII; otherwise binary ones

	PID int // process whose CPU and memory are reported as the server's; 0 for none
}

// PlanError says which field of a plan is invalid, and what to do.
type PlanError struct {
	Field  string // the flag's name without its dash
	Value  string
	Advice string
}

func (e *PlanError) Error() string {
	return strings.TrimSpace(e.Field+" "+e.Value) + ": " + e.Advice
}

func or[T comparable](p *T, value T) {
	var zero T
	if *p == zero {
		*p = value
	}
}

// WithDefaults returns the plan with its zero fields set.
func (p Plan) WithDefaults() Plan {
	conns := map[Mode]int{Idle: 1000, Ramp: 1000, Fanout: 100}[p.Mode]
	or(&conns, 64)
	or(&p.Conns, conns)
	or(&p.Size, 64)
	if p.Mode == Search {
		or(&p.Duration, 2*time.Minute)
	}
	or(&p.Duration, 10*time.Second)
	if p.Mode == Ramp {
		p.Warmup = -1 // the first connection is part of the figures
	}
	or(&p.Warmup, time.Second)
	or(&p.Threads, max(1, min(runtime.GOMAXPROCS(0)/2, p.Conns)))
	or(&p.Timeout, 5*time.Second)
	or(&p.Seed, 1)
	or(&p.Depth, 1)
	if p.Mode == Idle {
		or(&p.Rate, 100)
	}
	if p.Mode != Fanout {
		or(&p.Rate, 1000)
	}
	or(&p.Arrival, Uniform)
	or(&p.Messages, 1)
	or(&p.ConnectRate, 500)
	or(&p.Every, time.Second)
	or(&p.Window, 256<<10)
	or(&p.P99, 5*time.Millisecond)
	or(&p.Step, 2*time.Second)
	p.Warmup = max(p.Warmup, 0)
	return p
}

// Validate returns a *PlanError for the first invalid field, after WithDefaults. It does not ask the operating system.
func (p Plan) Validate() error {
	p = p.WithDefaults()
	if err := p.validateAddr("addr"); err != nil {
		return err
	}
	for _, c := range []struct {
		field    string
		value    float64
		min, max float64
		unit     string
	}{
		{"conns", float64(p.Conns), 1, MaxConns, "connections"},
		{"size", float64(p.Size), 1, MaxSize, "bytes"},
		{"threads", float64(p.Threads), 1, 1024, "threads"},
		{"sources", float64(p.Sources), 0, MaxSources, "addresses"},
		{"depth", float64(p.Depth), 1, MaxDepth, "messages"},
		{"rate", cmp.Or(p.Rate, 1), 0.01, MaxRate, "messages per second"}, // fanout can do without
		{"messages", float64(p.Messages), 1, 1 << 20, "messages"},
		{"active", float64(p.Active), 0, MaxConns, "connections"},
		{"connect-rate", p.ConnectRate, 0.01, 1e6, "connections per second"},
		{"window", float64(p.Window), 1, 1 << 30, "bytes"},
		{"pid", float64(p.PID), 0, math.MaxInt32, ""},
		{"duration", p.Duration.Seconds(), 0.01, 7 * 86400, "s"},
		{"warmup", p.Warmup.Seconds(), 0, 86400, "s"},
		{"timeout", p.Timeout.Seconds(), 0.001, 600, "s"},
		{"every", p.Every.Seconds(), 0.001, 3600, "s"},
		{"p99", p.P99.Seconds(), 1e-6, 60, "s"},
		{"step", p.Step.Seconds(), 0.1, 3600, "s"},
	} {
		if !(c.value >= c.min && c.value <= c.max) { // NaN fails too
			return &PlanError{c.field, number(c.value), strings.TrimSpace("use " + number(c.min) + " to " + number(c.max) + " " + c.unit)}
		}
	}
	if err := cmp.Or(p.validateTLS(), p.validateWS()); err != nil {
		return err
	}
	return p.validateMode()
}

func number(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }

// validateAddr checks Addr, and calls it field.
func (p *Plan) validateAddr(field string) error {
	const use = "use host:port, such as 127.0.0.1:7777, or unix:PATH"
	if path, ok := strings.CutPrefix(p.Addr, "unix:"); ok {
		if path == "" || strings.ContainsRune(path, 0) {
			return &PlanError{field, strconv.Quote(p.Addr), use}
		}
		if p.Sources > 0 {
			return &PlanError{"sources", strconv.Itoa(p.Sources), "a unix socket has no source address; leave it out"}
		}
		return nil
	}
	host, port, err := net.SplitHostPort(p.Addr)
	if n, e := strconv.ParseUint(port, 10, 16); err != nil || e != nil || n == 0 {
		return &PlanError{field, strconv.Quote(p.Addr), use}
	}
	if ip := net.ParseIP(host); p.Sources > 0 && (ip == nil || ip.To4() == nil || !ip.IsLoopback()) && host != "" {
		return &PlanError{"sources", strconv.Itoa(p.Sources),
			"the source addresses are 127.0.0.2 and up, so -" + field + " must be a 127.x.x.x address; leave it out otherwise"}
	}
	return nil
}

func (p *Plan) validateMode() error {
	if p.Subscribe != "" && p.Mode != Fanout {
		return &PlanError{"subscribe", strconv.Quote(p.Subscribe), "only fanout has subscribers; leave it out"}
	}
	if p.Arrival != Uniform && p.Arrival != Poisson && (p.Mode == Rate || p.Mode == Search || p.Mode == Fanout) {
		return &PlanError{"arrival", strconv.Quote(p.Arrival), "use uniform or poisson"}
	}
	switch p.Mode {
	case Echo, Churn, Rate, Search:
	case Idle:
		if p.Active > p.Conns {
			return &PlanError{"active", strconv.Itoa(p.Active), fmt.Sprintf("there are only %d connections; raise -conns", p.Conns)}
		}
	case Fanout:
		if p.Size < headerSize {
			return &PlanError{"size", strconv.Itoa(p.Size), fmt.Sprintf("fanout needs the %d byte header in each message; use %d or more", headerSize, headerSize)}
		}
		return p.validateFanout()
	case Ramp:
		if need := float64(p.Conns) / p.ConnectRate; need > p.Duration.Seconds() {
			return &PlanError{"duration", p.Duration.String(), fmt.Sprintf(
				"%d connections at %s per second take %.1f s; raise -duration or -connect-rate", p.Conns, number(p.ConnectRate), need)}
		}
	default:
		return &PlanError{"mode", strconv.Quote(string(p.Mode)), "use echo, rate, churn, idle, fanout, ramp or search"}
	}
	return nil
}

// validateFanout checks what only fanout has.
func (p Plan) validateFanout() error {
	if p.Stream && p.Rate > 0 {
		return &PlanError{"stream", "", "it sends as fast as the subscribers get it; leave it out with -rate"}
	}
	list := p.subscribe()
	if len(list) > MaxTargets || len(list) > p.Conns {
		return &PlanError{"subscribe", strconv.Quote(p.Subscribe), fmt.Sprintf("use %d addresses at most, and no more than there are subscribers", MaxTargets)}
	}
	for _, p.Addr = range list {
		if err := p.validateAddr("subscribe"); err != nil {
			return err
		}
	}
	return nil
}

// subscribe returns the addresses of Subscribe.
func (p *Plan) subscribe() []string {
	if p.Subscribe == "" {
		return nil
	}
	list := strings.Split(p.Subscribe, ",")
	for i := range list {
		list[i] = strings.TrimSpace(list[i])
	}
	return list
}
