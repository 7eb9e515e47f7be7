// Command chat is a chat server with rooms, for lines of text on a TCP connection and for a browser: lines, /join ROOM, /name NAME, /who,
// /quit. Talk to it with
//
//	go run ./examples/chat
//	nc localhost 7777
//
// and open http://127.0.0.1:8080. Users of both are in the same rooms. Who enters a room gets the last 50 lines that were said there.
//
// The chat itself is examples/internal/chat. The same one on several nodes is examples/cluster.
package main

import (
	"context"
	"flag"
	"log"
	"net"
	"os/signal"
	"syscall"
	"time"

	"github.com/servercore-go/servercore/engine"
	"github.com/servercore-go/servercore/examples/internal/chat"
	"github.com/servercore-go/servercore/record"
)

func main() {
	addr := flag.String("addr", ":7777", "`address` to listen on for lines of text")
	web := flag.String("web", ":8080", "`address` to listen on for browsers; empty for none")
	secure := flag.Bool("tls-self-signed", false, "browsers speak https and wss, with a new certificate for this machine that they will warn of")
	path := flag.String("record", "", "`file` to record what all users send and get to, for Wireshark and netreplay")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	o := chat.Options{Lines: *addr, Web: *web, SelfSigned: *secure}
	if *path != "" {
		w, err := record.Create(*path, record.Options{})
		if err != nil {
			log.Fatal(err)
		}
		defer w.Close()
		o.Listen = append(o.Listen, engine.Record(w))
	}
	s, err := chat.New(o)
	if err != nil {
		log.Fatal(err)
	}
	if err := s.Start(); err != nil {
		log.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(s.Lines.Addr().String())
	log.Printf("chat on %s; try: nc localhost %s", s.Lines.Addr(), port)
	if s.Web != nil {
		log.Printf("open %s", chat.PageURL(s.Web.Addr(), *secure))
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
