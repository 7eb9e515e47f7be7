package observe_test

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/servercore-go/servercore/engine"
	"github.com/servercore-go/servercore/observe"
	"github.com/servercore-go/servercore/session"
)

// The code of docs/guide/observing.md, which a test of docs/guide compares with this file.

// pagesOf returns a server that shows the engine to this machine only.
func pagesOf(e *engine.Engine) *http.Server {
	return &http.Server{
		Addr:              "127.0.0.1:9100", // not where clients come: the pages show their addresses
		Handler:           observe.Handler(e, observe.Options{}),
		ReadHeaderTimeout: 10 * time.Second,
	}
}

// register adds two engines to a registry that the program has already.
func register(registry prometheus.Registerer, game, chat *engine.Engine) {
	prometheus.WrapRegistererWith(prometheus.Labels{"engine": "game"}, registry).MustRegister(observe.Collector(game))
	prometheus.WrapRegistererWith(prometheus.Labels{"engine": "chat"}, registry).MustRegister(observe.Collector(chat))
}

// logged returns options whose engine logs each connection that it refuses and each loop that is held.
func logged(log *slog.Logger) engine.Options {
	return engine.Options{
		Trace: &engine.Trace{
			Refuse: func(r engine.TraceRefuse) { log.Info("refused", "remote", r.Remote, "cause", r.Cause, "err", r.Err) },
			Stall:  func(s engine.TraceStall) { log.Warn("a loop is held", "loop", s.Loop, "by", s.Callback, "for", s.For) },
		},
	}
}

// lastEnds returns why the last few sessions of a listener have ended.
func lastEnds(e *engine.Engine, listener string, most int) (ends []string) {
	for c := range e.Closed() {
		if len(ends) == most {
			break
		}
		if c.Listener == listener {
			ends = append(ends, fmt.Sprintf("%s: %d bytes in, %v", c.Cause, c.BytesIn, c.Reason))
		}
	}
	return ends
}

type echo struct{ session.Session }

func (s *echo) OnRecv(data []byte) { _ = s.Send(data) }

func Example() {
	ended := make(chan struct{})
	o := logged(slog.New(slog.DiscardHandler))
	o.Trace.Close = func(engine.ClosedSession) { close(ended) }
	game, err := engine.New(o)
	check(err)
	defer game.Close()
	l, err := game.Listen("tcp", "127.0.0.1:0", func() session.Handler { return new(echo) })
	check(err)
	check(game.Start())
	chat, err := engine.New(engine.Options{Logger: slog.New(slog.DiscardHandler)})
	check(err)
	defer chat.Close()

	client, err := net.Dial("tcp", l.Addr().String())
	check(err)
	_, err = io.WriteString(client, "hello")
	check(err)
	_, err = io.ReadFull(client, make([]byte, 5))
	check(err)
	check(client.Close())
	<-ended

	registry := prometheus.NewRegistry()
	register(registry, game, chat)
	families, err := registry.Gather()
	check(err)
	for _, f := range families {
		if f.GetName() == "servercore_accepted_sessions_total" {
			fmt.Println(f.GetName(), len(f.GetMetric()), "engines")
		}
	}
	w := httptest.NewRecorder()
	pagesOf(game).Handler.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	fmt.Println(strings.Contains(w.Body.String(), "\nservercore_accepted_sessions_total 1\n"))
	fmt.Println(lastEnds(game, "tcp://"+l.Addr().String(), 10))
	// Output:
	// servercore_accepted_sessions_total 2 engines
	// true
	// [peer_closed: 5 bytes in, session: closed by the peer]
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
