//go:build linux

package trials

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/servercore-go/servercore/engine"
	"github.com/servercore-go/servercore/session"
)

// Verbs are the first byte of a record's payload.
const (
	verbEcho    = 'e' // answer with the same payload
	verbNothing = 'n'
	verbGive    = 'g' // 8 bytes: send so many bytes, as records
	verbQuit    = 'q' // the same, then Disconnect
)

// request returns a payload of a verb and a number.
func request(verb byte, n int) []byte {
	return binary.LittleEndian.AppendUint64([]byte{verb}, uint64(n))
}

// number returns the number in a payload of request.
func number(payload []byte) int { return int(binary.LittleEndian.Uint64(payload[1:])) }

const (
	giveRecord = 16 << 10  // of what verbGive sends, header included
	giveAhead  = 512 << 10 // queued at most for it
)

// given is the payload that verbGive sends.
var given = [giveRecord - headerSize]byte{verbNothing}

// monotonic returns the time, in nanoseconds, of a clock that all processes of the machine share and that cannot be set.
func monotonic() int64 {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &t)
	return t.Nano()
}

// life is the server's record of one session. It is a part of the report.
type life struct {
	ID        uint64 // the client's number, 0 if it sent no record
	Loop      int    // the goroutine of OnConnected: a loop, unless content has taken goroutines down
	Connected int64  // monotonic
	Ended     int64  // 0 while it lives
	Received  int64
	Accepted  int64 // by Send
	Sent      int64 // sum of OnSend
	Records   uint32
	Whole     bool // what was received ends with a whole record
	Recvs     int
	Pending   int      // when a Send was refused with ErrSendLimit, that Send included
	Over      int64    // monotonic, when SoftLimit was seen passed for the first time
	Causes    []string // what Err matches
	Err       string
}

// member is the session of every trial. It records its callbacks and serves the verbs.
type member struct {
	session.Session
	server *content
	in     reader
	owed   int
	quit   bool
	trap   byte // where to fail, see T34

	numbering sync.Mutex // orders the numbers of records with their Sends
	out       writer
	life      life

	inside atomic.Bool
	stage  int32 // 0 before OnConnected, 1 open, 2 ended
	events [8]event
	count  int
}

// event is a callback, with its number in the sequence of all callbacks of the process.
type event struct {
	seq      uint64
	callback string
}

// enter is called at the beginning of a callback, leave at its end.
func (m *member) enter(callback string, from, to int32) {
	if m.inside.Swap(true) {
		m.server.fault("session %d: %s while another callback runs; before it %v", m.ID(), callback, m.events)
	}
	m.events[m.count%len(m.events)] = event{m.server.events.Add(1), callback}
	m.count++
	if m.stage != from {
		m.server.fault("session %d: %s at stage %d, want %d; last callbacks %v", m.ID(), callback, m.stage, from, m.events)
	}
	m.stage = to
}

func (m *member) leave() { m.inside.Store(false) }

func (m *member) OnConnected(net.Addr) {
	m.enter("OnConnected", 0, 1)
	defer m.leave()
	m.life.Connected, m.life.Loop = monotonic(), goroutine()
	m.server.arrived(m)
	if f := m.server.plan.connected; f != nil {
		f(m)
	}
}

func (m *member) OnRecv(data []byte) {
	m.enter("OnRecv", 1, 1)
	defer m.leave()
	m.life.Received += int64(len(data))
	m.life.Recvs++
	if f := m.server.plan.raw; f != nil && f(m, data) {
		return
	}
	if err := m.in.feed(data, m.serve); err != nil {
		m.DisconnectWith(err) // garbage
	}
	m.give()
}

// serve answers one record.
func (m *member) serve(payload []byte) {
	if m.life.ID == 0 {
		m.numbering.Lock()
		m.life.ID, m.out.id = m.in.id, m.in.id
		m.numbering.Unlock()
	}
	switch payload[0] {
	case verbNothing:
	case verbEcho:
		_ = m.send(payload)
	case verbGive, verbQuit:
		m.owed += number(payload)
		m.quit = m.quit || payload[0] == verbQuit
	default:
		if f := m.server.plan.verb; f != nil {
			f(m, payload)
		}
	}
}

// send sends one record. It uses up the record's number only if Send accepts it.
func (m *member) send(payload []byte) error {
	memory := memories.Get().(*[]byte)
	defer memories.Put(memory)
	*memory = slices.Grow((*memory)[:0], headerSize+len(payload))
	return m.sendIn(*memory, payload)
}

// sendIn is send with the caller's memory for the record, which must be empty.
func (m *member) sendIn(memory, payload []byte) error {
	m.numbering.Lock()
	defer m.numbering.Unlock()
	next := m.out
	record := next.add(memory, payload)
	before := m.Pending()
	err := m.Send(record)
	switch {
	case err == nil:
		m.out = next
		m.life.Accepted += int64(len(record))
	case errors.Is(err, session.ErrSendLimit):
		m.life.Pending = before + len(record)
	}
	return err
}

// give sends a part of what is owed: a little more than the kernel takes.
func (m *member) give() {
	for m.owed > headerSize && m.Pending() < giveAhead {
		payload := given[:min(m.owed, giveRecord)-headerSize]
		if rest := m.owed - headerSize - len(payload); rest > 0 && rest <= headerSize {
			payload = payload[:len(payload)-headerSize] // no record is shorter than its header
		}
		if m.send(payload) != nil {
			return
		}
		m.owed -= headerSize + len(payload)
	}
	if m.owed == 0 && m.quit {
		m.Disconnect()
	}
}

func (m *member) OnSend(n int) {
	m.enter("OnSend", 1, 1)
	defer m.leave()
	if m.life.Sent += int64(n); n <= 0 {
		m.server.fault("session %d: OnSend(%d)", m.ID(), n)
	}
	m.give()
	if f := m.server.plan.sent; f != nil {
		f(m)
	}
}

func (m *member) OnDisconnected(net.Addr) {
	m.enter("OnDisconnected", 1, 2)
	defer m.leave()
	m.numbering.Lock()
	m.life.Ended = monotonic()
	l := m.life
	m.numbering.Unlock()
	l.Records, l.Whole = m.in.seq, m.in.whole()
	l.Causes, l.Err = causes(m.Err()), fmt.Sprint(m.Err())
	if m.Pending() != 0 || !errors.Is(m.Send([]byte("late")), session.ErrClosed) {
		m.server.fault("session %d has ended with %d bytes pending, and takes more", m.ID(), m.Pending())
	}
	m.server.left(m, l)
	if f := m.server.plan.disconnected; f != nil {
		f(m)
	}
}

// causes names every reason that err matches.
func causes(err error) (names []string) {
	for _, c := range []struct {
		name string
		err  error
	}{
		{"peer closed", session.ErrPeerClosed}, {"reset", session.ErrPeerReset}, {"disconnected", session.ErrDisconnected},
		{"aborted", session.ErrAborted}, {"send limit", session.ErrSendLimit}, {"idle", session.ErrIdle},
		{"write stall", session.ErrWriteStall}, {"drain timeout", session.ErrDrainTimeout}, {"panic", session.ErrPanic},
		{"shutdown", session.ErrShutdown}, {"truncated", session.ErrTruncated}, {"timeout", os.ErrDeadlineExceeded},
	} {
		if errors.Is(err, c.err) {
			names = append(names, c.name)
		}
	}
	return names
}

// goroutine returns the number of the running goroutine, which identifies the loop.
func goroutine() int {
	var b [64]byte
	first, _, _ := strings.Cut(strings.TrimPrefix(string(b[:runtime.Stack(b[:], false)]), "goroutine "), " ")
	n, _ := strconv.Atoi(first)
	return n
}

// content has all sessions of a server process.
type content struct {
	plan   plan
	engine *engine.Engine
	events atomic.Uint64

	mu        sync.Mutex
	live      map[*member]bool
	peak      int
	connected int
	ended     int
	lives     []life // of sessions that have ended and not been reported; of those that sent no record, the first 20,000
	silent    int    // how many of those
	victims   []*member
	faults    []string
}

func (c *content) fault(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.faults) < 20 {
		c.faults = append(c.faults, fmt.Sprintf(format, args...))
	}
}

func (c *content) arrived(m *member) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.live == nil {
		c.live = make(map[*member]bool)
	}
	c.live[m] = true
	c.connected++
	c.peak = max(c.peak, len(c.live))
}

func (c *content) left(m *member, l life) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.live[m] {
		c.faults = append(c.faults, fmt.Sprintf("session %d: OnDisconnected without OnConnected, or twice", m.ID()))
	}
	delete(c.live, m)
	if len(c.live) == 0 {
		c.live = nil // what a map has grown to it keeps
	}
	c.ended++
	if l.ID == 0 {
		if c.silent++; c.silent > 20_000 {
			return
		}
	}
	c.lives = append(c.lives, l)
}

// victim adds a session to those that abuse calls.
func (c *content) victim(m *member) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.victims = append(c.victims, m)
	c.victims = c.victims[max(0, len(c.victims)-150):]
}

// recent returns the last 150 victims; some have ended.
func (c *content) recent() []*member {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.victims)
}

// identity is the part of an open session that a report may have.
func (m *member) identity() life {
	m.numbering.Lock()
	defer m.numbering.Unlock()
	return life{ID: m.life.ID, Loop: m.life.Loop, Connected: m.life.Connected}
}
