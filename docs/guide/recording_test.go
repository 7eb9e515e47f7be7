package guide_test

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/servercore-go/servercore/engine"
	"github.com/servercore-go/servercore/record"
	"github.com/servercore-go/servercore/session"
)

func Example_recording() {
	path := filepath.Join(value(os.MkdirTemp("", "recording")), "players.pcapng")
	defer os.RemoveAll(filepath.Dir(path))

	w := value(record.Create(path, record.Options{}))
	e := value(engine.New(engine.Options{}))
	l := value(e.Listen("tcp", "127.0.0.1:0", newShouter, engine.Record(w)))
	must(e.Start())
	ask(l.Addr(), "hello")
	stop(e)
	must(w.Close()) // after the engine has ended: then everything is in it

	show(path)
	// Output:
	// client data "hello\n"
	// server data "hello\n"
	// server finished ""
	// client finished ""
	// session: disconnected
}

// newShouter makes a session that answers once.
func newShouter() session.Handler { return new(shouter) }

type shouter struct{ session.Session }

func (s *shouter) OnRecv(data []byte) {
	s.Send(data)
	s.Disconnect()
}

// show prints what a recording has.
func show(path string) {
	r := value(record.Open(path))
	defer r.Close()
	for _, s := range r.Sessions {
		for e, err := range s.Events() {
			must(err)
			side := "server"
			if e.Client {
				side = "client"
			}
			fmt.Printf("%s %v %q\n", side, e.Kind, e.Data)
		}
		fmt.Println(s.Reason)
	}
}

func Example_flightRecorder() {
	path := filepath.Join(value(os.MkdirTemp("", "recording")), "last.pcapng")
	defer os.RemoveAll(filepath.Dir(path))

	w := value(record.Create(path, record.Options{
		Ring:     64 << 20, // bytes in memory; the file is not touched before Dump
		Prefixes: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
		Filter:   func(i record.Info) bool { return i.ID%100 != 99 }, // leaves out one session of a hundred
	}))
	defer w.Close()
	e := value(engine.New(engine.Options{}))
	l := value(e.Listen("tcp", "127.0.0.1:0", newShouter, engine.Record(w)))
	must(e.Start())
	ask(l.Addr(), "hello")
	stop(e)
	must(w.Dump("")) // at any time, from any goroutine but a callback's; "" is Create's path

	fmt.Println(len(value(record.Open(path)).Sessions), "session")
	// Output: 1 session
}
