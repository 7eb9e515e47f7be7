package chat

import (
	"bytes"
	"context"
	"fmt"
	"sync"

	"github.com/servercore-go/servercore/session"
)

// Cluster is where rooms and names are if they are on several nodes: examples/cluster has one. Claim, Send and Release are those of
// package cluster: a name has one holder.
type Cluster interface {
	Room(name string) Room
	Claim(ctx context.Context, name string, h session.Handler) error
	Release(name string, h session.Handler)
	Send(ctx context.Context, name string, line []byte) error
	Replaced(reason error) bool // of a session's end: another one has claimed its name
	Node() string               // the name of this node, of letters, digits, - and _
}

// Room is the members of a room, on this node and on others. Package cluster's Room has these methods, but for Names.
type Room interface {
	JoinWith(h session.Handler, name []byte) error // again: under another name
	Leave(h session.Handler)
	Broadcast(line []byte, except ...session.Handler) error
	Intercept(f func(line []byte, except ...session.Handler)) // f hands each Broadcast to the members on this node
	Local() *session.Group                                    // those
	Len(ctx context.Context) (int, error)
	Names(ctx context.Context) ([]string, error)
}

// here is a room whose members are all in this process.
type here struct {
	session.Group
	hand func(line []byte, except ...session.Handler)
}

func (r *here) JoinWith(h session.Handler, _ []byte) error { r.Join(h); return nil }

func (r *here) Leave(h session.Handler) { r.Group.Leave(h) }

func (r *here) Broadcast(line []byte, except ...session.Handler) error {
	r.hand(line, except...)
	return nil
}

func (r *here) Intercept(f func([]byte, ...session.Handler)) {
	if f != nil {
		r.hand = f
	}
}

func (r *here) Local() *session.Group { return &r.Group }

func (r *here) Len(context.Context) (int, error) { return r.Group.Len(), nil }

func (r *here) Names(context.Context) (names []string, _ error) {
	for h := range r.All() {
		names = append(names, h.(*User).Name())
	}
	return names, nil
}

// rooms has the lobby, and every other room with at least one member here.
type rooms struct {
	cluster Cluster // nil: all is here
	mu      sync.Mutex
	byName  map[string]*room
}

func newRooms(c Cluster) *rooms {
	r := &rooms{cluster: c, byName: make(map[string]*room)}
	r.byName[lobby] = r.open(lobby) // its history begins with the server
	return r
}

func (r *rooms) open(name string) *room {
	opened := &room{}
	if opened.Room = Room(new(here)); r.cluster != nil {
		opened.Room = r.cluster.Room(name)
	}
	opened.Intercept(opened.hear)
	return opened
}

// move moves a user from one room to another; an empty name stands for no room. It does both under mu, so that no user joins a room while
// the empty room is deleted.
func (r *rooms) move(u *User, to string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if u.room != nil {
		u.room.Leave(u)
		if u.room.Local().Len() == 0 && u.in != lobby { // the history of the lobby stays
			u.room.Intercept(nil)
			delete(r.byName, u.in)
		}
	}
	u.in, u.room = to, nil
	if to == "" {
		return
	}
	if r.byName[to] == nil {
		r.byName[to] = r.open(to)
	}
	u.room = r.byName[to]
	u.room.enter(u)
}

// room is a room, and the last lines that were said in it, as far as this node has heard them.
type room struct {
	Room
	mu      sync.Mutex // what is said and who enters come one after the other, so that a history has no gap and nothing twice
	history [][]byte
}

// hear keeps a line that was said, wherever, and hands it to the members here. A notice begins with an asterisk, and is not kept.
func (r *room) hear(line []byte, except ...session.Handler) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !bytes.HasPrefix(line, []byte("* ")) {
		if len(r.history) == historyLines {
			r.history = append(r.history[:0], r.history[1:]...)
		}
		r.history = append(r.history, bytes.Clone(line))
	}
	r.Local().Broadcast(line, except...)
}

// say sends a line to all in the room. A user of nc has the line on the screen already. A browser gets its own lines too: so it shows what
// has arrived, in the order in which all others here see it.
func (r *room) say(line []byte, by *User) error {
	if by.web {
		return r.Broadcast(line)
	}
	return r.Broadcast(line, by)
}

// enter tells a user the name of the room and what was said in it, and adds the user. A browser gets all of it in one message: so the page
// knows where the history ends.
func (r *room) enter(u *User) {
	r.mu.Lock()
	defer r.mu.Unlock()
	others, err := r.Len(context.Background())
	if err != nil {
		others = r.Local().Len() // all that can be known now
	}
	lines := append([][]byte{fmt.Appendf(nil, "* you are %s in %s, with %d others", u.Name(), u.in, others)}, r.history...)
	if u.web {
		lines = [][]byte{bytes.Join(lines, []byte("\n"))}
	}
	for _, line := range lines {
		_ = u.Send(line)
	}
	_ = r.JoinWith(u, []byte(u.Name())) // it fails only if the user or the server is about to end
}
