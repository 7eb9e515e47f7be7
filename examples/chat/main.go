// Command chat is a chat server with rooms: lines of text, /join ROOM, /name NAME, /who, /quit. Talk to it with
//
//	go run ./examples/chat
//	nc localhost 7777
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"net"
	"os/signal"
	"strings"
	"sync"
	"syscall"

	"github.com/servercore-go/servercore/engine"
	"github.com/servercore-go/servercore/frame"
	"github.com/servercore-go/servercore/session"
)

// rooms has every room with at least one member.
type rooms struct {
	mu     sync.Mutex
	byName map[string]*session.Group
}

// move moves a user from one room to another; an empty name stands for no room. It does both under mu, so that no user joins a room while
// the empty room is deleted.
func (r *rooms) move(u *user, to string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if u.group != nil {
		u.group.Leave(u)
		if u.group.Len() == 0 {
			delete(r.byName, u.room)
		}
	}
	u.room, u.group = to, nil
	if to == "" {
		return
	}
	if r.byName[to] == nil {
		r.byName[to] = new(session.Group)
	}
	u.group = r.byName[to]
	u.group.Join(u)
}

// user is one connection. Its fields belong to its loop, except name, which other users read.
type user struct {
	session.Session
	rooms *rooms
	room  string
	group *session.Group

	mu   sync.Mutex
	name string
}

func (u *user) Name() string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.name
}

func (u *user) OnConnected(remote net.Addr) {
	u.name = "guest" + fmt.Sprint(u.ID())
	u.enter("lobby")
}

func (u *user) OnDisconnected(net.Addr) {
	u.say("* %s has left", u.Name())
	u.rooms.move(u, "")
}

// OnRecv gets one line at a time: the listener's framer is frame.Line.
func (u *user) OnRecv(line []byte) {
	command, rest, _ := strings.Cut(strings.TrimSpace(string(line)), " ")
	rest = strings.TrimSpace(rest)
	switch {
	case command == "":
	case command == "/quit":
		u.Disconnect()
	case command == "/who":
		u.who()
	case command == "/join" && rest != "":
		u.say("* %s goes to %s", u.Name(), rest)
		u.enter(rest)
	case command == "/name" && rest != "":
		before := u.Name()
		u.mu.Lock()
		u.name = rest
		u.mu.Unlock()
		u.say("* %s is now %s", before, rest)
	case strings.HasPrefix(command, "/"):
		u.tell("* /join ROOM, /name NAME, /who, /quit")
	default:
		u.say("%s: %s", u.Name(), line)
	}
}

func (u *user) enter(room string) {
	u.rooms.move(u, room)
	u.tell("* you are %s in %s, with %d others", u.Name(), room, u.group.Len()-1)
	u.say("* %s is here", u.Name())
}

func (u *user) who() {
	var names []string
	for other := range u.group.All() {
		names = append(names, other.(*user).Name())
	}
	u.tell("* %s", strings.Join(names, ", "))
}

// say sends a line to the others in the room, tell sends one to the user. A user that does not read misses lines when SendLimit bytes are
// queued for it.
func (u *user) say(format string, args ...any) {
	u.group.Broadcast(fmt.Appendf(nil, format, args...), u)
}
func (u *user) tell(format string, args ...any) { _ = u.Send(fmt.Appendf(nil, format, args...)) }

func serve(addr string) (*engine.Engine, *engine.Listener, error) {
	e, err := engine.New(engine.Options{SendLimit: 64 << 10})
	if err != nil {
		return nil, nil, err
	}
	r := &rooms{byName: make(map[string]*session.Group)}
	l, err := e.Listen("tcp", addr, func() session.Handler { return &user{rooms: r} }, engine.Framed(frame.Line{Max: 1000}))
	return e, l, err
}

func main() {
	addr := flag.String("addr", ":7777", "address to listen on")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	e, _, err := serve(*addr)
	if err != nil {
		log.Fatal(err)
	}
	log.Printf("chat on %s; try: nc localhost %s", *addr, (*addr)[strings.LastIndex(*addr, ":")+1:])
	if err := e.Run(ctx); err != nil {
		log.Fatal(err)
	}
}
