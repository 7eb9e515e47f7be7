// Command chat is a chat server with rooms, for lines of text on a TCP connection and for a browser: lines, /join ROOM, /name NAME, /who,
// /quit. Talk to it with
//
//	go run ./examples/chat
//	nc localhost 7777
//
// and open http://127.0.0.1:8080. Users of both are in the same rooms. Who enters a room gets the last 50 lines that were said there.
package main

import (
	"bytes"
	"cmp"
	"context"
	"flag"
	"fmt"
	"log"
	"net"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/servercore-go/servercore/engine"
	"github.com/servercore-go/servercore/frame"
	"github.com/servercore-go/servercore/record"
	"github.com/servercore-go/servercore/session"
)

const (
	lobby        = "lobby"
	maxText      = 1000          // bytes of a line that a user sends
	maxWord      = 20            // characters of a name
	maxLine      = maxText + 200 // with all that the server adds to it
	historyLines = 50
	sendLimit    = 64 << 10 // more than a history of the longest lines
)

// rooms has the lobby, and every other room with at least one member.
type rooms struct {
	mu     sync.Mutex
	byName map[string]*room
}

// room is a group, and the last lines that were said in it.
type room struct {
	session.Group
	mu      sync.Mutex // what is said and who enters come one after the other, so that a history has no gap and nothing twice
	history [][]byte
}

// say sends a line to all in the room, and keeps it. A user of nc has the line on the screen already. A browser gets its own lines too: so
// it shows what has arrived, in the order in which all others see it.
func (r *room) say(line []byte, by *user) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.history) == historyLines {
		r.history = append(r.history[:0], r.history[1:]...)
	}
	r.history = append(r.history, line)
	if by.web {
		r.Broadcast(line)
	} else {
		r.Broadcast(line, by)
	}
}

// enter tells a user the name of the room and what was said in it, and adds the user. A browser gets all of it in one message: so the page
// knows where the history ends.
func (r *room) enter(u *user) {
	r.mu.Lock()
	defer r.mu.Unlock()
	lines := append([][]byte{fmt.Appendf(nil, "* you are %s in %s, with %d others", u.Name(), u.room, r.Len())}, r.history...)
	if u.web {
		lines = [][]byte{bytes.Join(lines, []byte("\n"))}
	}
	for _, line := range lines {
		_ = u.Send(line)
	}
	r.Join(u)
}

// move moves a user from one room to another; an empty name stands for no room. It does both under mu, so that no user joins a room while
// the empty room is deleted.
func (r *rooms) move(u *user, to string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if u.group != nil {
		u.group.Leave(u)
		if u.group.Len() == 0 && u.room != lobby { // the history of the lobby stays
			delete(r.byName, u.room)
		}
	}
	u.room, u.group = to, nil
	if to == "" {
		return
	}
	if r.byName[to] == nil {
		r.byName[to] = new(room)
	}
	u.group = r.byName[to]
	u.group.enter(u)
}

// user is one connection. Its fields belong to its loop, except name, which other users read.
type user struct {
	session.Session
	rooms *rooms
	web   bool // a browser
	room  string
	group *room

	mu   sync.Mutex
	name string
}

func (u *user) Name() string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.name
}

// OnConnected is called when the upgrade is done, if the user is a browser. Its URL may have a name and a room: it comes back with them.
func (u *user) OnConnected(net.Addr) {
	name, room := "", ""
	if r := u.Request(); r != nil {
		u.web = true
		q := r.URL.Query()
		name, room = word(q.Get("name")), word(q.Get("room"))
	}
	u.name = cmp.Or(name, "guest"+fmt.Sprint(u.ID()))
	u.enter(cmp.Or(room, lobby))
}

func (u *user) OnDisconnected(net.Addr) {
	u.notice("* %s has left", u.Name())
	u.rooms.move(u, "")
}

// OnRecv gets one line at a time: a message of a browser, or what the framer of the other listener, frame.Line, has found.
func (u *user) OnRecv(line []byte) {
	text := clean(line)
	command, rest, _ := strings.Cut(text, " ")
	to := word(strings.TrimSpace(rest))
	switch {
	case text == "":
	case len(text) > maxText:
		u.tell("* a line has %d bytes at most", maxText)
	case command == "/quit":
		u.Disconnect()
	case command == "/who":
		u.who()
	case (command == "/join" || command == "/name") && to == "":
		u.tell("* %s takes a word of %d letters, digits, - and _ at most", command, maxWord)
	case command == "/join" && to == u.room:
		u.tell("* you are there")
	case command == "/join":
		u.notice("* %s goes to %s", u.Name(), to)
		u.enter(to)
	case command == "/name":
		u.rename(to)
	case strings.HasPrefix(command, "/"):
		u.tell("* /join ROOM, /name NAME, /who, /quit")
	default:
		u.group.say(fmt.Appendf(nil, "%s: %s", u.Name(), text), u)
	}
}

// clean returns a line as the others may get it. A message of a browser could have several lines, and one from TCP bytes that are no UTF-8,
// which a browser does not accept. Control characters would reach the terminals of others.
func clean(line []byte) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(string(line), "?")))
}

// word returns s if it can be the name of a user or a room, else "". A name has no space, colon or asterisk, so that no line can be taken for a
// notice.
func word(s string) string {
	if utf8.RuneCountInString(s) > maxWord || strings.ContainsFunc(s, func(r rune) bool {
		return !unicode.In(r, unicode.Letter, unicode.Mark, unicode.Digit) && r != '-' && r != '_'
	}) {
		return ""
	}
	return s
}

func (u *user) enter(room string) {
	u.rooms.move(u, room)
	u.notice("* %s is here", u.Name())
}

func (u *user) rename(to string) {
	before := u.Name()
	u.mu.Lock()
	u.name = to
	u.mu.Unlock()
	u.tell("* you are now %s", to)
	u.notice("* %s is now %s", before, to)
}

func (u *user) who() {
	list := ""
	for other := range u.group.All() {
		if len(list) > maxText {
			list += fmt.Sprintf("%d in all, ", u.group.Len())
			break
		}
		list += other.(*user).Name() + ", "
	}
	u.tell("* %s", strings.TrimSuffix(list, ", "))
}

// notice sends a line to the others in the room, tell sends one to the user. A user that does not read misses lines when SendLimit bytes
// are queued for it.
func (u *user) notice(format string, args ...any) {
	u.group.Broadcast(fmt.Appendf(nil, format, args...), u)
}
func (u *user) tell(format string, args ...any) { _ = u.Send(fmt.Appendf(nil, format, args...)) }

// server is an engine with two listeners.
type server struct {
	*engine.Engine
	lines, web *engine.Listener // web is nil for none
}

// serve makes a server for lines at addr, and for browsers at web, unless that is "". The options are for both.
func serve(addr, web string, secure bool, both ...engine.Option) (*server, error) {
	e, err := engine.New(engine.Options{SendLimit: sendLimit})
	if err != nil {
		return nil, err
	}
	s := &server{Engine: e}
	r := &rooms{byName: make(map[string]*room)}
	newUser := func() session.Handler { return &user{rooms: r} }
	lines := append([]engine.Option{engine.Framed(frame.Line{Max: maxLine})}, both...)
	if s.lines, err = e.Listen("tcp", addr, newUser, lines...); err != nil || web == "" {
		return s, err
	}
	options, err := webOptions(secure)
	if err == nil {
		s.web, err = e.Listen("tcp", web, newUser, append(options, both...)...)
	}
	return s, err
}

func main() {
	addr := flag.String("addr", ":7777", "`address` to listen on for lines of text")
	web := flag.String("web", ":8080", "`address` to listen on for browsers; empty for none")
	secure := flag.Bool("tls-self-signed", false, "browsers speak https and wss, with a new certificate for this machine that they will warn of")
	path := flag.String("record", "", "`file` to record what all users send and get to, for Wireshark and netreplay")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	var both []engine.Option
	if *path != "" {
		w, err := record.Create(*path, record.Options{})
		if err != nil {
			log.Fatal(err)
		}
		defer w.Close()
		both = append(both, engine.Record(w))
	}
	s, err := serve(*addr, *web, *secure, both...)
	if err != nil {
		log.Fatal(err)
	}
	if err := s.Start(); err != nil {
		log.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(s.lines.Addr().String())
	log.Printf("chat on %s; try: nc localhost %s", s.lines.Addr(), port)
	if s.web != nil {
		log.Printf("open %s", pageURL(s.web.Addr(), *secure))
	}
	select {
	case <-s.Done():
		log.Fatal(s.Err())
	case <-ctx.Done():
	}
	late, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := s.Shutdown(late); err != nil {
		log.Print(err)
	}
}
