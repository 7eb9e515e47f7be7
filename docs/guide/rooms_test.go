package guide_test

import (
	"bufio"
	"fmt"
	"net"

	"github.com/servercore-go/servercore/engine"
	"github.com/servercore-go/servercore/frame"
	"github.com/servercore-go/servercore/session"
)

var lobby session.Group // the zero value is an empty room

type user struct{ session.Session }

func (u *user) OnConnected(net.Addr) {
	lobby.Join(u)
	u.Send([]byte("welcome"))
}

func (u *user) OnRecv(line []byte) { lobby.Broadcast(line, u) } // to everybody but u

func (u *user) OnDisconnected(net.Addr) { lobby.Broadcast([]byte("somebody has left")) } // u is no member any more

func Example_rooms() {
	e := value(engine.New(engine.Options{}))
	l := value(e.Listen("tcp", "127.0.0.1:0", func() session.Handler { return new(user) }, engine.Framed(frame.Line{})))
	must(e.Start())
	defer e.Close()

	ann, annHears := join(l.Addr())
	bob, bobHears := join(l.Addr())
	defer bob.Close()
	fmt.Println(lobby.Len(), "members")
	fmt.Fprintln(ann, "hello from Ann")
	fmt.Println("Bob hears:", bobHears())
	fmt.Fprintln(bob, "hello from Bob")
	fmt.Println("Ann hears:", annHears())
	ann.Close()
	fmt.Println("Bob hears:", bobHears())
	// Output:
	// 2 members
	// Bob hears: hello from Ann
	// Ann hears: hello from Bob
	// Bob hears: somebody has left
}

// join connects, waits to be welcomed, and returns the connection and a function that reads its next line.
func join(addr net.Addr) (net.Conn, func() string) {
	c := value(net.Dial(addr.Network(), addr.String()))
	lines := bufio.NewScanner(c)
	next := func() string { lines.Scan(); return lines.Text() }
	next()
	return c, next
}

func Example_endSlow() {
	players := session.Group{EndSlow: true} // a member whose queue is full is ended; without it, it misses the message
	reached := players.Broadcast([]byte("tick"))
	fmt.Println(reached, "reached,", players.Skipped(), "skipped")
	// Output: 0 reached, 0 skipped
}
