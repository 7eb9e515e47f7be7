//go:build linux

package trials

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"
)

// person is a client: one that may be connected to one node after another, and to two of them for the moment of a move. What it has
// received is judged as it comes.
type person struct {
	f    *fleet
	name string

	mu   sync.Mutex
	now  *line
	told map[string]map[int]bool // by sender: which of its numbers have come, over all connections
}

// line is one connection of a person.
type line struct {
	person *person
	node   int
	conn   net.Conn
	ended  chan struct{} // closed when everything was read
	moving chan struct{} // closed when the node has asked to connect elsewhere

	writing sync.Mutex

	mu      sync.Mutex
	asked   int
	waiting map[string]chan string
	streams map[stream]*progress
	last    map[string]int // the last number told by a sender
	unsaid  map[string]int // by room: Broadcasts that others were not sent
	delays  spread         // of the messages that have a time, if they are kept
	keep    bool
	keepOf  string // the sender whose messages are timed
	inRoom  bool   // as the last join or leave has it
}

// stream is what one sender says in one room.
type stream struct{ room, from string }

// progress is what has come of a stream.
type progress struct{ first, last, count int }

// join connects a person of that name with a node.
func (f *fleet) join(name string, node int) *person {
	f.t.Helper()
	p := &person{f: f, name: name, told: make(map[string]map[int]bool)}
	must(f.t, p.connect(node))
	return p
}

// connect makes a connection to a node, which is the person's from then on. The one before goes on being read.
func (p *person) connect(node int) error {
	conn, err := net.DialTimeout("tcp", p.f.nodes[node].client, 5*time.Second)
	if err != nil {
		return err
	}
	p.f.closer.add(conn)
	l := &line{person: p, node: node, conn: conn, ended: make(chan struct{}), moving: make(chan struct{}),
		waiting: make(map[string]chan string), streams: make(map[stream]*progress), last: make(map[string]int), unsaid: make(map[string]int)}
	go l.read()
	if what := l.do("name", p.name); what != "ok" {
		return errors.New(what)
	}
	p.mu.Lock()
	p.now = l
	p.mu.Unlock()
	return nil
}

// line is the connection of now.
func (p *person) line() *line {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.now
}

// isOver reports whether the connection has ended.
func (l *line) isOver() bool {
	select {
	case <-l.ended:
		return true
	default:
		return false
	}
}

func (l *line) write(format string, args ...any) error {
	l.writing.Lock()
	defer l.writing.Unlock()
	_, err := fmt.Fprintf(l.conn, format+"\n", args...)
	return err
}

// begin sends a command, and returns the channel on which its outcome comes: "gone" if the connection ends before.
func (l *line) begin(verb, format string, args ...any) <-chan string {
	result := make(chan string, 1)
	l.mu.Lock()
	if l.waiting == nil {
		l.mu.Unlock()
		result <- "gone"
		return result
	}
	l.asked++
	id := fmt.Sprint(l.asked)
	l.waiting[id] = result
	l.inRoom = verb == "join" || l.inRoom && verb != "leave"
	l.mu.Unlock()
	_ = l.write(id+" "+verb+" "+format, args...) // read notices what ails the connection
	return result
}

// do sends a command and waits for its outcome.
func (l *line) do(verb, format string, args ...any) string {
	select {
	case what := <-l.begin(verb, format, args...):
		return what
	case <-time.After(patience):
		return "no answer"
	}
}

// joined reports whether the last of join and leave was join.
func (l *line) joined() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.inRoom
}

// claim claims a key, and returns the outcome and how long the node says it has taken.
func (l *line) claim(key string) (what string, took time.Duration) {
	answer := l.do("claim", "%s", key)
	what, micros, _ := strings.Cut(answer, " ")
	if n := 0; micros != "" {
		_, _ = fmt.Sscan(micros, &n)
		took = time.Duration(n) * time.Microsecond
	}
	return what, took
}

// read reads everything until the connection ends.
func (l *line) read() {
	lines := bufio.NewReaderSize(l.conn, 16<<10)
	for {
		text, err := lines.ReadString('\n')
		if err != nil {
			break
		}
		l.receive(strings.TrimSuffix(text, "\n"))
	}
	l.mu.Lock()
	for _, result := range l.waiting {
		result <- "gone"
	}
	l.waiting = nil
	l.mu.Unlock()
	close(l.ended)
}

func (l *line) receive(text string) {
	f := strings.SplitN(text, " ", 5)
	switch f[0] {
	case "m":
		l.heard(stream{f[1], f[2]}, f[3], f[4:])
	case "t":
		l.told(f[1], number(f[2]))
	case "=":
		l.mu.Lock()
		result := l.waiting[f[1]]
		delete(l.waiting, f[1])
		l.mu.Unlock()
		if result == nil {
			l.person.f.fault("an answer to nothing: %q", text)
			return
		}
		result <- strings.Join(f[2:], " ")
	case "!":
		l.mu.Lock()
		l.unsaid[f[1]]++
		l.mu.Unlock()
	case "move":
		close(l.moving)
	default:
		l.person.f.fault("a line of no kind: %q", text)
	}
}

// heard judges a message to a room (N1): each once, and those of one sender in their order.
func (l *line) heard(s stream, text string, rest []string) {
	n := number(text)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.person.f.counts.heard.Add(1)
	if l.keep && len(rest) > 0 && s.from == l.keepOf {
		sent := number(strings.Fields(rest[0])[0])
		l.delays = append(l.delays, time.Since(l.person.f.began)-time.Duration(sent))
	}
	p := l.streams[s]
	switch {
	case p == nil:
		l.streams[s] = &progress{n, n, 1}
		return
	case n == p.last:
		l.person.f.counts.doubled.Add(1)
	case n < p.last:
		l.person.f.counts.disordered.Add(1)
	}
	p.last = max(p.last, n)
	p.count++
}

// told judges a message to a key: each once, whatever connection it comes by.
func (l *line) told(from string, n int) {
	f := l.person.f
	f.counts.told.Add(1)
	l.mu.Lock()
	if last, ok := l.last[from]; ok && n <= last {
		f.counts.disordered.Add(1) // or doubled, which is seen below
	}
	l.last[from] = n
	l.mu.Unlock()
	p := l.person
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.told[from] == nil {
		p.told[from] = make(map[int]bool)
	}
	if p.told[from][n] {
		f.counts.doubled.Add(1)
	}
	p.told[from][n] = true
}

// missing returns how many messages of all streams of a room this connection is short of, between the first and the last that it has.
func (l *line) missing(room string) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for s, p := range l.streams {
		if s.room == room {
			n += p.last - p.first + 1 - p.count
		}
	}
	return n
}

// voice is a person that says things in a room, numbered.
type voice struct {
	*person
	room string
	next int
}

// say says the next number, with the time in nanoseconds since the fleet began.
func (v *voice) say(padding string) {
	v.next++
	_ = v.line().write("0 say %s %d %d%s", v.room, v.next, time.Since(v.f.began).Nanoseconds(), padding)
}
