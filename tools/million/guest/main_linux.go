// Command guest is the first program of the machine of make million (tools/million): process 1, in an initramfs with echoserver and netbench.
// It prepares the machine, runs one phase, prints where it is on the console, writes the result as JSON to the second serial line, and
// switches the machine off.
//
// main_linux.go: the order of things. machine_linux.go: mounts, settings, the loopback. phase_linux.go: a phase. server_linux.go: the server and
// its pages. look_linux.go: what /proc says. text.go: parsers.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/servercore-go/servercore/tools/million/figures"
)

// config is what the machine outside asks for.
type config struct {
	phase          string
	conns, active  int
	rate           float64
	loops          int
	duration       time.Duration
	limit          time.Duration
	gogc, memlimit string
}

func main() {
	began := time.Now()
	r := &figures.Result{Started: began.UTC().Format(time.RFC3339)}
	if err := run(r, began); err != nil {
		r.Failure = err.Error()
		fmt.Println("million:", err)
	}
	r.Took = time.Since(began).Seconds()
	if err := write(r); err != nil {
		fmt.Println("million: the result was not written:", err)
	}
	fmt.Println("million: cannot switch off:", powerOff())
}

func run(r *figures.Result, began time.Time) error {
	var c config
	flag.StringVar(&c.phase, "phase", figures.Idle, "idle or fanout")
	flag.IntVar(&c.conns, "conns", 1000, "connections")
	flag.IntVar(&c.active, "active", 10, "idle: active connections")
	flag.Float64Var(&c.rate, "rate", 100, "idle: messages per second")
	flag.IntVar(&c.loops, "loops", 0, "event loops of the server")
	flag.DurationVar(&c.duration, "duration", 20*time.Second, "idle: time of the measured part")
	flag.DurationVar(&c.limit, "limit", 10*time.Minute, "time after which the phase ends, with what it has")
	flag.StringVar(&c.gogc, "gogc", "", "GOGC of the server")
	flag.StringVar(&c.memlimit, "memlimit", "", "GOMEMLIMIT of the server")
	flag.Parse()
	r.Phase, r.Conns = c.phase, c.conns
	if err := mountAll(); err != nil {
		return err
	}
	var err error
	if r.Settings, err = apply(c.conns); err != nil {
		return err
	}
	if err := loopbackUp(); err != nil {
		return err
	}
	describe(&r.Machine)
	r.Machine.Loops, r.Machine.GOGC, r.Machine.MemLimit = c.loops, c.gogc, c.memlimit
	ctx, cancel := context.WithTimeout(context.Background(), c.limit)
	defer cancel()
	p := &phase{config: c, result: r, began: began}
	return p.run(ctx)
}

// write puts the result on the second serial line, which is a file outside.
func write(r *figures.Result) error {
	out, err := os.OpenFile("/dev/ttyS1", os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	if err := json.NewEncoder(out).Encode(r); err != nil {
		return err
	}
	drain(out)
	return out.Close()
}
