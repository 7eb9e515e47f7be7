package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

const (
	serverLog = "/tmp/server.log"
	token     = "million" // of the pages; nobody else is in the machine
	// keepAlive is the server's -keep-alive: longer than a phase, so that no client is asked whether it is there. Timers of minutes fire late, up to an
	// eighth of their time, and all those of many seconds at once: with 10 minutes those of 16 s, some 24,000 clients here, are asked in
	// one moment, and the queue of packets for the same machine holds 1,000 by default.
	keepAlive = "2h"
)

// server is the running echoserver.
type server struct {
	cmd  *exec.Cmd
	url  string
	http http.Client
}

// serve starts echoserver and waits until it listens.
func serve(c *config, mode string) (*server, error) {
	log, err := os.Create(serverLog)
	if err != nil {
		return nil, err
	}
	defer log.Close() // the process has its own
	s := &server{http: http.Client{Timeout: 2 * time.Minute}}
	s.cmd = exec.Command("/echoserver", "-mode", mode, "-addr", address, "-loops", fmt.Sprint(c.loops), "-keep-alive", keepAlive, "-observe", "127.0.0.1:9100", "-observe-admin")
	s.cmd.Env = []string{"GODEBUG=gctrace=1", "ECHOSERVER_OBSERVE_TOKEN=" + token}
	if c.gogc != "" {
		s.cmd.Env = append(s.cmd.Env, "GOGC="+c.gogc)
	}
	if c.memlimit != "" {
		s.cmd.Env = append(s.cmd.Env, "GOMEMLIMIT="+c.memlimit)
	}
	s.cmd.Stderr = log
	stdout, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		if url, ok := strings.CutPrefix(lines.Text(), "observe on "); ok {
			s.url = url
			break
		}
	}
	if s.url == "" {
		return nil, errors.Join(errors.New("echoserver has not started"), s.stop())
	}
	go func() { _, _ = io.Copy(io.Discard, stdout) }()
	return s, nil
}

// scrape reads the server's counters.
func (s *server) scrape(ctx context.Context) (metrics, error) {
	body, err := s.get(ctx, "metrics/engine") // that of the process would list a million descriptors
	if err != nil {
		return metrics{}, err
	}
	defer body.Close()
	return parseMetrics(body)
}

// isLate reports whether err is that a server, which may be there, has not answered in time.
func isLate(err error) bool {
	var late interface{ Timeout() bool }
	return errors.As(err, &late) && late.Timeout()
}

// collect has the server's garbage collector run once.
func (s *server) collect(ctx context.Context) {
	if body, err := s.get(ctx, "debug/pprof/heap?gc=1"); err == nil {
		_, _ = io.Copy(io.Discard, body)
		body.Close()
	}
}

func (s *server) get(ctx context.Context, page string) (io.ReadCloser, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+page, nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Authorization", "Bearer "+token)
	resp, err := s.http.Do(r)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		resp.Body.Close()
		return nil, fmt.Errorf("%s: %s", page, resp.Status)
	}
	return resp.Body, nil
}

// stop ends the server in order, or after half a minute at once.
func (s *server) stop() error {
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	kill := time.AfterFunc(30*time.Second, func() { _ = s.cmd.Process.Kill() })
	defer kill.Stop()
	return s.cmd.Wait()
}
