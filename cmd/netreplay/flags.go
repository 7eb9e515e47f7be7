package main

import (
	"crypto/tls"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/servercore-go/servercore/frame"
)

// config is what the flags say.
type config struct {
	file             string
	addr             string
	network, address string
	speed            float64
	lockstep         bool
	copies           int
	parallel         int
	frame            string
	framer           frame.Framer // nil for bytes
	maxMessage       int
	ignore           []span
	wait             time.Duration
	show             int
	sessions         []uint64
	useTLS, insecure bool
	tls              *tls.Dialer // nil without
}

// span is a part of a message.
type span struct{ from, n int }

// framers are the values of -frame. max is the largest message, in bytes.
var framers = map[string]func(max int) frame.Framer{
	"length2":    func(max int) frame.Framer { return lengthField(2, max, binary.BigEndian) },
	"length4":    func(max int) frame.Framer { return lengthField(4, max, binary.BigEndian) },
	"length2le":  func(max int) frame.Framer { return lengthField(2, max, binary.LittleEndian) },
	"length4le":  func(max int) frame.Framer { return lengthField(4, max, binary.LittleEndian) },
	"varint":     func(max int) frame.Framer { return frame.Varint{Max: max} },
	"line":       func(max int) frame.Framer { return frame.Line{Max: max} },
	"servercore": func(max int) frame.Framer { return frame.ServerCore{Max: min(max, math.MaxUint16-2)} },
}

func lengthField(n, max int, order binary.ByteOrder) frame.Framer {
	return frame.LengthField{LengthFieldLength: n, InitialBytesToStrip: n, MaxFrameLength: max + n, ByteOrder: order}
}

// frameNames returns the values of -frame.
func frameNames() string {
	names := []string{}
	for name := range framers {
		names = append(names, name)
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

func flagSet(c *config) *flag.FlagSet {
	*c = config{speed: 1, copies: 1, parallel: 1000, frame: "none", maxMessage: 1 << 20, wait: 10 * time.Second, show: 10}
	fs := flag.NewFlagSet("netreplay", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.StringVar(&c.addr, "addr", "", "the server: `host:port`, or unix:PATH. It has to be given.")
	fs.Float64Var(&c.speed, "speed", c.speed,
		"`factor` of the pace: 1 as recorded, 10 ten times as fast, 0 as fast as the server takes it.")
	fs.BoolVar(&c.lockstep, "lockstep", false,
		"send each piece only when the answers that had come before it in the recording have come again.")
	fs.IntVar(&c.copies, "copies", c.copies, "`number` of clients for each recorded one, at once.")
	fs.IntVar(&c.parallel, "parallel", c.parallel, "largest `number` of connections at a time.")
	fs.StringVar(&c.frame, "frame", c.frame,
		"`kind` of message, so that a difference in one leaves the others comparable: none compares bytes;\nor "+frameNames()+".")
	fs.IntVar(&c.maxMessage, "max-message", c.maxMessage, "largest message, in `bytes`.")
	fs.Func("ignore", "parts of each message that may differ, as `FROM:LENGTH,...` in bytes, such as 2:8 for a number at 2.\nIt needs -frame.", c.parseIgnore)
	fs.DurationVar(&c.wait, "wait", c.wait, "`time` without a byte after which an answer counts as missing.")
	fs.IntVar(&c.show, "show", c.show, "`number` of differences to print.")
	fs.Func("session", "`numbers` of the sessions to play, such as 17 or 17,18. The default is all.", c.parseSessions)
	fs.BoolVar(&c.useTLS, "tls", false, "speak TLS to the server. Recordings are of what is above TLS.")
	fs.BoolVar(&c.insecure, "tls-insecure", false, "speak TLS, and accept any certificate.")
	return fs
}

func (c *config) parseIgnore(s string) error {
	for part := range strings.SplitSeq(s, ",") {
		from, n, found := strings.Cut(part, ":")
		a, err1 := strconv.Atoi(from)
		b, err2 := strconv.Atoi(n)
		if !found || err1 != nil || err2 != nil || a < 0 || b < 1 {
			return errors.New("use FROM:LENGTH, such as 2:8")
		}
		c.ignore = append(c.ignore, span{a, b})
	}
	return nil
}

func (c *config) parseSessions(s string) error {
	for part := range strings.SplitSeq(s, ",") {
		id, err := strconv.ParseUint(part, 10, 64)
		if err != nil {
			return errors.New("use numbers of sessions, such as 17,18")
		}
		c.sessions = append(c.sessions, id)
	}
	return nil
}

// parseFlags reads the command line. Its error says what to change, or is flag.ErrHelp.
func parseFlags(args []string) (*config, error) {
	c := new(config)
	fs := flagSet(c)
	var files []string
	for { // flags may stand behind the file
		if err := fs.Parse(args); err != nil {
			return nil, err
		}
		if fs.NArg() == 0 {
			break
		}
		files = append(files, fs.Arg(0))
		args = fs.Args()[1:]
	}
	switch {
	case len(files) != 1:
		return nil, fmt.Errorf("name one recording, got %d", len(files))
	case c.addr == "":
		return nil, errors.New("-addr is missing: where is the server?")
	case c.speed < 0 || math.IsNaN(c.speed) || math.IsInf(c.speed, 0):
		return nil, errors.New("-speed: use 0 or a positive number")
	case c.copies < 1 || c.parallel < 1 || c.maxMessage < 1 || c.show < 0 || c.wait <= 0:
		return nil, errors.New("-copies, -parallel, -max-message and -wait must be positive, -show not negative")
	case len(c.ignore) > 0 && c.frame == "none":
		return nil, errors.New("-ignore needs -frame: it is about messages")
	}
	c.file = files[0]
	if c.frame != "none" {
		f, ok := framers[c.frame]
		if !ok {
			return nil, fmt.Errorf("-frame %s: use none, %s", c.frame, frameNames())
		}
		c.framer = f(c.maxMessage)
	}
	if c.useTLS || c.insecure {
		c.tls = &tls.Dialer{Config: &tls.Config{InsecureSkipVerify: c.insecure}}
	}
	c.network, c.address = "tcp", c.addr
	if path, ok := strings.CutPrefix(c.addr, "unix:"); ok {
		c.network, c.address = "unix", path
	} else if _, _, err := net.SplitHostPort(c.addr); err != nil {
		return nil, fmt.Errorf("-addr %q: use host:port or unix:PATH", c.addr)
	}
	return c, nil
}

func helpText() string {
	var b strings.Builder
	b.WriteString(`netreplay plays the clients of a recording against a server, and says where the answers differ.

  netreplay bug.pcapng -addr :7777                       at the recorded pace
  netreplay bug.pcapng -addr :7777 -speed 0 -lockstep    as fast as the answers come
  netreplay bug.pcapng -addr :7777 -frame length4        compare message by message
  netreplay bug.pcapng -addr :7777 -copies 20            twenty clients for each

Recordings are made with engine.Record, or echoserver -record. Sessions of which the beginning or a part is missing are not played.
Exit code 0: no difference; 1: differences; 2: it could not be played.

`)
	flagSet(new(config)).VisitAll(func(f *flag.Flag) {
		name, usage := flag.UnquoteUsage(f)
		fmt.Fprintf(&b, "  -%s %s\n        %s\n", f.Name, name, strings.ReplaceAll(usage, "\n", "\n        "))
	})
	return b.String()
}
