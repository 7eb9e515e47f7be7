package chat

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/servercore-go/servercore/session"
)

// User is one connection. Its fields belong to its loop, except name, which other users read.
type User struct {
	session.Session
	rooms *rooms
	web   bool // a browser
	in    string
	room  *room

	mu   sync.Mutex
	name string
}

// Name returns the user's name.
func (u *User) Name() string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.name
}

// OnConnected is called when the upgrade is done, if the user is a browser. Its URL may have a name and a room: it comes back with them.
func (u *User) OnConnected(net.Addr) {
	name, to := "", ""
	if r := u.Request(); r != nil {
		u.web = true
		q := r.URL.Query()
		name, to = word(q.Get("name")), word(q.Get("room"))
	}
	c := u.rooms.cluster
	guest := "guest" + fmt.Sprint(u.ID())
	if c != nil {
		guest += "-" + c.Node()
	}
	u.name = cmp.Or(name, guest)
	u.enter(cmp.Or(to, lobby))
	if c == nil {
		return
	}
	u.tell("* this is node %s", c.Node())
	if name != "" {
		u.claim(name, func() {})
	}
}

// OnDisconnected tells the room, but not of a user who has connected again.
func (u *User) OnDisconnected(net.Addr) {
	if c := u.rooms.cluster; c == nil || !c.Replaced(u.Err()) {
		u.notice("* %s has left", u.Name())
	}
	u.rooms.move(u, "")
}

// OnRecv gets one line at a time: a message of a browser, or what the framer of the other listener, frame.Line, has found.
func (u *User) OnRecv(line []byte) {
	text := clean(line)
	command, rest, _ := strings.Cut(text, " ")
	rest = strings.TrimSpace(rest)
	to := word(rest)
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
	case command == "/join" && to == u.in:
		u.tell("* you are there")
	case command == "/join":
		u.notice("* %s goes to %s", u.Name(), to)
		u.enter(to)
	case command == "/name" && u.rooms.cluster != nil:
		u.claim(to, func() { u.rename(to) })
	case command == "/name":
		u.rename(to)
	case command == "/to" && u.rooms.cluster != nil:
		u.whisper(rest)
	case strings.HasPrefix(command, "/"):
		u.help()
	default:
		u.heard(u.room.say(fmt.Appendf(nil, "%s: %s", u.Name(), text), u))
	}
}

func (u *User) help() {
	if u.rooms.cluster != nil {
		u.tell("* /join ROOM, /name NAME, /to NAME TEXT, /who, /quit")
		return
	}
	u.tell("* /join ROOM, /name NAME, /who, /quit")
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

// word returns s if it can be the name of a user or a room, else "". A name has no space, colon or asterisk, so that no line can be taken for
// a notice.
func word(s string) string {
	if utf8.RuneCountInString(s) > maxWord || strings.ContainsFunc(s, func(r rune) bool {
		return !unicode.In(r, unicode.Letter, unicode.Mark, unicode.Digit) && r != '-' && r != '_'
	}) {
		return ""
	}
	return s
}

func (u *User) enter(room string) {
	u.rooms.move(u, room)
	u.notice("* %s is here", u.Name())
}

func (u *User) rename(to string) {
	before := u.Name()
	u.mu.Lock()
	u.name = to
	u.mu.Unlock()
	_ = u.room.JoinWith(u, []byte(to)) // it is a member already
	u.tell("* you are now %s", to)
	u.notice("* %s is now %s", before, to)
}

// claim makes the user the one who has the name in the whole cluster, and then calls f. Another user who has it is ended.
func (u *User) claim(name string, f func()) {
	c := u.rooms.cluster
	u.wait(func(ctx context.Context) error { return c.Claim(ctx, name, u) }, func(err error) {
		switch {
		case err != nil && c.Replaced(err): // the session ends, because another one has been faster
		case err != nil:
			u.tell("* the name %s cannot be taken: %v", name, err)
		default:
			if before := u.Name(); before != name {
				c.Release(before, u)
			}
			f()
		}
	})
}

// whisper sends a line to one user, on whatever node.
func (u *User) whisper(rest string) {
	to, text, _ := strings.Cut(rest, " ")
	line := fmt.Appendf(nil, "* %s, to you: %s", u.Name(), text)
	u.wait(func(ctx context.Context) error { return u.rooms.cluster.Send(ctx, to, line) }, func(err error) {
		if err != nil {
			u.tell("* not sent to %s: %v", to, err)
			return
		}
		u.tell("* to %s: %s", to, text)
	})
}

// wait runs what waits for other nodes on a goroutine of its own, because the loop must not wait, and what follows on the loop.
func (u *User) wait(work func(context.Context) error, then func(error)) {
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		err := work(ctx)
		_ = u.Post(func() { then(err) }) // it fails if the user has gone meanwhile
	}()
}

func (u *User) who() {
	names, err := u.room.Names(context.Background())
	if err != nil {
		u.tell("* %v", err)
		return
	}
	slices.Sort(names)
	list := ""
	for _, name := range names {
		if len(list) > maxText {
			list += fmt.Sprintf("%d in all, ", len(names))
			break
		}
		list += name + ", "
	}
	u.tell("* %s", strings.TrimSuffix(list, ", "))
}

// SendElsewhere asks the user to connect to another node, because this one ends. The page does so by itself.
func (u *User) SendElsewhere() { u.tell("* this node ends; connect again") }

// notice sends a line to the others in the room, tell sends one to the user. A user that does not read misses lines when SendLimit bytes
// are queued for it.
func (u *User) notice(format string, args ...any) {
	_ = u.room.Broadcast(fmt.Appendf(nil, format, args...), u) // others may miss a notice
}
func (u *User) tell(format string, args ...any) { _ = u.Send(fmt.Appendf(nil, format, args...)) }

// heard tells the user if a line has not left this node.
func (u *User) heard(err error) {
	if err != nil {
		u.tell("* only users of this node have that: %v", err)
	}
}
