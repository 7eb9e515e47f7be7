package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/servercore-go/servercore/cluster"
	"github.com/servercore-go/servercore/examples/internal/chat"
	"github.com/servercore-go/servercore/observe"
	"github.com/servercore-go/servercore/session"
)

// ready is what a node logs when it accepts users. The demo waits for it.
const ready = "The node is ready."

// serve runs one node until ctx ends. Then it accepts no one, asks its users to connect elsewhere, gives them c.drain for it, and ends.
func serve(ctx context.Context, c config) error {
	log := slog.New(slog.NewTextHandler(os.Stdout, nil)).With("name", c.node)
	o, err := c.options(log)
	if err != nil {
		return err
	}
	node, err := cluster.Open(o)
	if err != nil {
		return err
	}
	defer node.Close()
	s, err := chat.New(chat.Options{Lines: c.addr, Web: c.web, Cluster: rooms{node, c.node}, Logger: log})
	if err != nil {
		return err
	}
	defer s.Close()
	if c.observe != "" {
		pages, err := net.Listen("tcp", c.observe)
		if err != nil {
			return err
		}
		defer pages.Close()
		go (&http.Server{Handler: observe.Handler(s.Engine, observe.Options{Sources: []observe.Source{node}}), ReadHeaderTimeout: 10 * time.Second}).Serve(pages)
	}
	if err := s.Start(); err != nil {
		return err
	}
	log.Info(ready, "process", os.Getpid(), "lines", s.Lines.Addr().String(), "web", c.web, "cluster", node.ID().String())
	select {
	case <-s.Done():
		return s.Err()
	case <-ctx.Done():
	}
	log.Info("The node ends; its users are asked to connect elsewhere.", "sessions", node.Stats().Sessions)
	return end(node, s, c.drain)
}

// end moves the users of a node to others, as far as they go, and ends it.
func end(node *cluster.Cluster, s *chat.Server, patience time.Duration) error {
	s.StopAccepting()
	draining, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	err := node.Drain(draining, func(h session.Handler) { h.(*chat.User).SendElsewhere() })
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	late, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	return s.Shutdown(late)
}

// options says where the bus is.
func (c config) options(log *slog.Logger) (cluster.Options, error) {
	o := cluster.Options{URL: c.nats, Logger: log}
	if c.nats != "" {
		return o, nil
	}
	o.Embedded = &cluster.Embedded{Listen: c.listen, Secret: c.secret}
	if c.routes != "" {
		o.Embedded.Routes = strings.Split(c.routes, ",")
	}
	if c.cert == "" {
		return o, nil
	}
	pair, err := tls.LoadX509KeyPair(c.cert, c.key)
	if err != nil {
		return o, err
	}
	signers, err := os.ReadFile(c.ca)
	if err != nil {
		return o, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(signers) {
		return o, fmt.Errorf("%s has no certificate", c.ca)
	}
	o.Embedded.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: pool}
	return o, nil
}
