// Command netreplay plays the client side of a recording (package record) against a server, and says where the server's answers differ from the
// recorded ones. With it a bug report is a file. Run it with -h for the flags.
//
// Exit codes: 0 no difference; 1 differences; 2 the recording could not be played.
//
//	main.go     flags, the run, exit codes
//	flags.go    what the flags say
//	script.go   what a session's client did
//	answers.go  what it was answered, read from the file piece by piece
//	play.go     one session against the server
//	compare.go  answers against the recorded ones
//	report.go   differences, progress, the summary
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/servercore-go/servercore/record"
)

// Exit codes.
const (
	exitSame      = 0
	exitDifferent = 1
	exitFault     = 2
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run is the whole program. It returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	c, err := parseFlags(args)
	if errors.Is(err, flag.ErrHelp) {
		fmt.Fprint(stdout, helpText())
		return exitSame
	}
	if err != nil {
		fmt.Fprintf(stderr, "netreplay: %v\nRun netreplay -h for every flag.\n", err)
		return exitFault
	}
	r, err := play(ctx, c, stderr)
	if err != nil {
		fmt.Fprintf(stderr, "netreplay: %v\n", err)
		return exitFault
	}
	r.write(stdout)
	if ctx.Err() != nil {
		fmt.Fprintln(stderr, "netreplay: interrupted: not everything was played")
		return exitFault
	}
	if r.different > 0 {
		return exitDifferent
	}
	return exitSame
}

// play plays the whole recording.
func play(ctx context.Context, c *config, stderr io.Writer) (*report, error) {
	recording, err := record.Open(c.file)
	if err != nil {
		return nil, err
	}
	defer recording.Close()
	scripts, left, err := c.scripts(recording)
	if err != nil {
		return nil, err
	}
	if len(scripts) == 0 {
		return nil, fmt.Errorf("%s has no session that can be played (%s)", c.file, left)
	}
	if err := c.reach(ctx); err != nil {
		return nil, err
	}
	r := newReport(c, scripts, left)
	stop := r.showProgress(stderr)
	defer stop()
	places := make(chan struct{}, c.parallel)
	var all sync.WaitGroup
	r.began = time.Now()
	for _, s := range scripts {
		for copy := range c.copies {
			if !pause(ctx, c.due(r.began, s.since)) {
				break
			}
			select {
			case places <- struct{}{}:
			case <-ctx.Done():
				continue
			}
			all.Go(func() {
				defer func() { <-places }()
				p := player{config: c, script: s, report: r, began: r.began}
				r.add(s, copy, p.play(ctx))
			})
		}
	}
	all.Wait()
	r.took = time.Since(r.began)
	return r, nil
}

// due returns when something is to happen that was recorded that long after the beginning. It is zero for at once.
func (c *config) due(began time.Time, after time.Duration) time.Time {
	if c.speed == 0 {
		return time.Time{}
	}
	return began.Add(time.Duration(float64(after) / c.speed))
}

// pause waits until then, and returns false if ctx ends before.
func pause(ctx context.Context, then time.Time) bool {
	d := time.Until(then)
	if then.IsZero() || d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// reach makes a connection and closes it: a server that is not there is no difference.
func (c *config) reach(ctx context.Context) error {
	conn, err := c.dial(ctx)
	if err != nil {
		return fmt.Errorf("the server at %s cannot be reached: %w", c.addr, err)
	}
	return conn.Close()
}

// dial connects to the server.
func (c *config) dial(ctx context.Context) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, c.wait)
	defer cancel()
	if c.tls != nil {
		return c.tls.DialContext(ctx, c.network, c.address)
	}
	return new(net.Dialer).DialContext(ctx, c.network, c.address)
}
