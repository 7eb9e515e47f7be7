package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"
)

// process is a node, as the measuring process sees it.
type process struct {
	cmd         *exec.Cmd
	in          io.WriteCloser
	orders      *json.Encoder
	answers     *json.Decoder
	addr, route string
}

// start starts a node. routes is as the flag has it.
func start(p plan, routes string) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	n := &process{cmd: exec.Command(self, "-node", "-routes", routes, "-nats", p.url, "-size", fmt.Sprint(p.size), "-loops", fmt.Sprint(p.loops))}
	n.cmd.Stderr = os.Stderr
	if n.in, err = n.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := n.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := n.cmd.Start(); err != nil {
		return nil, err
	}
	r := bufio.NewReader(out)
	line, err := r.ReadString('\n')
	if err != nil {
		n.stop()
		return nil, fmt.Errorf("a node has not started: %w", err)
	}
	n.addr, n.route, _ = strings.Cut(strings.TrimSpace(line), " ")
	n.orders, n.answers = json.NewEncoder(n.in), json.NewDecoder(r)
	return n, nil
}

// stop ends the node.
func (n *process) stop() {
	n.in.Close()
	_ = n.cmd.Wait()
}

// ask gives an order and returns the answer.
func (n *process) ask(o order) (answer, error) {
	var a answer
	if err := n.orders.Encode(o); err != nil {
		return a, err
	}
	if err := n.answers.Decode(&a); err != nil {
		return a, fmt.Errorf("a node does not answer: %w", err)
	}
	if a.Error != "" {
		return a, errors.New(a.Error)
	}
	if a.Failed > 0 {
		return a, fmt.Errorf("%s: %d of %d have failed, the first one with: %s", o.Do, a.Failed, o.N, a.FirstFail)
	}
	return a, nil
}

// nodes are the processes of one cluster.
type nodes []*process

func (all nodes) stop() {
	for _, n := range all {
		n.stop()
	}
}

// open starts so many nodes, and returns when each knows all.
func open(p plan, count int) (nodes, error) {
	routes := "-"
	if count == 1 {
		routes = "" // alone: nothing is ever given to the bus
	}
	var all nodes
	for range count {
		n, err := start(p, routes)
		if err != nil {
			all.stop()
			return nil, err
		}
		if all = append(all, n); n.route != "" {
			routes = n.route
		}
	}
	err := all.until("all nodes are known", func(a answer) bool { return a.Cluster.Nodes == count })
	if err != nil {
		all.stop()
		return nil, err
	}
	return all, nil
}

// until waits until something holds for each node.
func (all nodes) until(what string, holds func(answer) bool) error {
	late := time.Now().Add(time.Minute)
	for _, n := range all {
		for {
			a, err := n.ask(order{Do: "sample"})
			if err != nil {
				return err
			}
			if holds(a) {
				break
			}
			if time.Now().After(late) {
				return fmt.Errorf("not within a minute: %s", what)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	return nil
}

// sample returns what each node says.
func (all nodes) sample(o order) ([]answer, error) {
	list := make([]answer, len(all))
	for i, n := range all {
		a, err := n.ask(o)
		if err != nil {
			return nil, err
		}
		list[i] = a
	}
	return list, nil
}

// quantile returns a quantile of values, which it sorts.
func quantile[T int | float64 | time.Duration](values []T, q float64) T {
	if len(values) == 0 {
		return 0
	}
	slices.Sort(values)
	return values[min(int(q*float64(len(values))), len(values)-1)]
}

func median(values []float64) float64 { return quantile(slices.Clone(values), 0.5) }
