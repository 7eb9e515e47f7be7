package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/servercore-go/servercore/tools/million/figures"
)

const (
	address    = "127.0.0.1:7777"
	clientJSON = "/tmp/client.json"
	// perSource is how many connections come from one address. The kernel searches for a free port, which takes long when many are taken.
	perSource  = 4000
	mostSource = 250 // of netbench
)

// client is the running netbench.
type client struct {
	cmd  *exec.Cmd
	out  bytes.Buffer
	done chan struct{} // closed when it has ended
	err  error         // of its end; after done
}

func load(c *config) (*client, error) {
	args := []string{c.phase, "-addr", address, "-conns", fmt.Sprint(c.conns), "-json", clientJSON,
		"-sources", fmt.Sprint(min(mostSource, 1+c.conns/perSource))}
	if c.phase == figures.Idle {
		args = append(args, "-echo-all", "-active", fmt.Sprint(c.active), "-rate", fmt.Sprint(c.rate), "-duration", c.duration.String(), "-timeout", "120s")
	} else {
		// One broadcast is under way at a time, and the one that has begun is waited for.
		args = append(args, "-duration", "1s", "-warmup", "0", "-timeout", "600s")
	}
	n := &client{cmd: exec.Command("/netbench", args...), done: make(chan struct{})}
	n.cmd.Env = []string{"HOME=/tmp"} // not none, which stands for this process' own
	n.cmd.Stdout, n.cmd.Stderr = &n.out, &n.out
	if err := n.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		n.err = n.cmd.Wait()
		close(n.done)
	}()
	return n, nil
}

// said returns what it has printed. It must have ended.
func (n *client) said() string { return strings.TrimSpace(n.out.String()) }

// outcome is the part of bench.Result that is wanted here.
type outcome struct {
	Totals struct {
		Asked    float64 `json:"asked_per_s"`
		PerS     float64 `json:"messages_per_s"`
		Messages uint64  `json:"messages"`
		AfterEnd uint64  `json:"messages_after_end"`
		Echoed   uint64  `json:"conns_echoed"`
	} `json:"totals"`
	Errors        map[string]uint64 `json:"errors"`
	Distributions []struct {
		Name  string  `json:"name"`
		Count uint64  `json:"count"`
		P50   float64 `json:"latency_p50_us"`
		P99   float64 `json:"latency_p99_us"`
		Max   float64 `json:"latency_max_us"`
	} `json:"distributions"`
}

// fill puts what netbench has written into the result. Without a file there is nothing: netbench has said why.
func fill(r *figures.Result, said string) error {
	r.Client.Says, _, _ = strings.Cut(said, "\n")
	data, err := os.ReadFile(clientJSON)
	if err != nil {
		return fmt.Errorf("netbench has left no result: %s", r.Client.Says)
	}
	var o outcome
	if err := json.Unmarshal(data, &o); err != nil {
		return err
	}
	o.into(r)
	return nil
}

func (o *outcome) into(r *figures.Result) {
	c := &r.Client
	c.AskedPerS, c.PerS = o.Totals.Asked, o.Totals.PerS
	for _, n := range o.Errors {
		c.Errors += n
	}
	for _, d := range o.Distributions {
		switch d.Name {
		case "reply", "delivery":
			c.P50, c.P99, c.Max = d.P50, d.P99, d.Max
		case "connect":
			c.ConnectP50, c.ConnectP99 = d.P50, d.P99
		case "round":
			c.Rounds, c.Round = d.Count, d.Max/1e6
		}
	}
	r.Verified = o.Totals.Echoed
	if r.Phase == figures.Fanout && c.Rounds > 0 {
		r.Verified = (o.Totals.Messages + o.Totals.AfterEnd) / c.Rounds
	}
}
