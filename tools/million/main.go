// Million holds a million sessions in an emulated machine, for systems whose limit on open files is lower: make million CONNS=1000000
//
// It builds echoserver, netbench and a first program (guest) without cgo, packs them as an initramfs, boots Debian's kernel with them in qemu,
// and reads the result from a serial line. Nothing is installed, and nothing is written but the cache folder:
//
//	vmlinuz-VERSION   the kernel, out of Debian's package
//	bin, initramfs    what was built
//	results           a file for each phase and number of connections; what is there and complete is not measured again
//	million.json      all results; million.md has their tables
//
// main.go: flags, phases. kernel.go: the kernel. build.go: programs, initramfs. cpio.go: its format. machine.go: qemu.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/servercore-go/servercore/tools/million/figures"
)

// config is the command line.
type config struct {
	conns, active  int
	rate           float64
	duration       time.Duration
	limit          time.Duration
	phases         string
	memory, cpus   int
	loops          int
	gogc, memlimit string
	accel, cpu     string
	kernel, cache  string
	fresh          bool
}

func main() {
	var c config
	flag.IntVar(&c.conns, "conns", 20_000, "connections, up to 1048576")
	flag.IntVar(&c.active, "active", 0, "active connections of phase idle; 0 stands for a hundredth")
	flag.Float64Var(&c.rate, "rate", 200, "messages per second, of the active ones together")
	flag.DurationVar(&c.duration, "duration", 20*time.Second, "time for which they are active")
	flag.DurationVar(&c.limit, "limit", 0, "time after which a phase ends with what it has; 0 stands for ten minutes and 4 ms for each connection")
	flag.StringVar(&c.phases, "phases", figures.Idle+","+figures.Fanout, "what to measure")
	flag.IntVar(&c.memory, "memory", 0, "MiB of the machine; 0 stands for what the connections need")
	flag.IntVar(&c.cpus, "cpus", 2, "processors of the machine")
	flag.IntVar(&c.loops, "loops", 0, "event loops of the server; 0 stands for one for each processor")
	flag.StringVar(&c.gogc, "gogc", "", "GOGC of the server, in place of its own 15")
	flag.StringVar(&c.memlimit, "memlimit", "", "GOMEMLIMIT of the server, such as 2GiB")
	flag.StringVar(&c.accel, "accel", "tcg,thread=multi,tb-size=512", "qemu's -accel; kvm where /dev/kvm runs an ordinary kernel")
	flag.StringVar(&c.cpu, "cpu", "max", "qemu's -cpu")
	flag.StringVar(&c.kernel, "kernel", "", "a kernel (bzImage) with serial console and initramfs built in, in place of Debian's")
	flag.StringVar(&c.cache, "cache", ".million", "folder for all files")
	flag.BoolVar(&c.fresh, "fresh", false, "measure again what has been measured")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, &c); err != nil {
		fmt.Fprintln(os.Stderr, "million:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, c *config) error {
	if c.conns < 1 || c.conns > 1<<20 {
		return fmt.Errorf("-conns %d: use 1 to %d", c.conns, 1<<20)
	}
	if c.active == 0 {
		c.active = max(1, c.conns/100)
	}
	if c.limit == 0 {
		c.limit = 10*time.Minute + time.Duration(c.conns)*4*time.Millisecond
	}
	var err error
	if c.cache, err = filepath.Abs(c.cache); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(c.cache, "results"), 0o755); err != nil {
		return err
	}
	var failed []error
	var image string
	for _, phase := range strings.Split(c.phases, ",") {
		if phase != figures.Idle && phase != figures.Fanout {
			return fmt.Errorf("-phases %s: use %s, %s or both", phase, figures.Idle, figures.Fanout)
		}
		file := c.file(phase)
		if r, err := read(file); err == nil && r.Complete && !c.fresh {
			fmt.Printf("== %s with %d connections has been measured: %s (-fresh measures again)\n", phase, c.conns, file)
			continue
		}
		if image == "" {
			if image, err = c.build(ctx); err != nil {
				return err
			}
		}
		fmt.Printf("== %s with %d connections\n", phase, c.conns)
		if err := c.measure(ctx, phase, image, file); err != nil {
			failed = append(failed, err)
		}
		if ctx.Err() != nil {
			break
		}
	}
	return errors.Join(append(failed, c.report())...)
}

// file is where the result of a phase is kept. Settings of the server that change its memory are part of the name.
func (c *config) file(phase string) string {
	name := fmt.Sprintf("%s-%d", phase, c.conns)
	if c.gogc != "" {
		name += "-gogc" + c.gogc
	}
	if c.memlimit != "" {
		name += "-memlimit" + c.memlimit
	}
	return filepath.Join(c.cache, "results", name+".json")
}

func read(file string) (*figures.Result, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	r := new(figures.Result)
	if err := json.Unmarshal(data, r); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return r, nil
}

// measure runs one phase in a machine of its own and keeps its result.
func (c *config) measure(ctx context.Context, phase, image, file string) error {
	r, err := c.boot(ctx, phase, image)
	if err != nil {
		return err
	}
	if err := writeJSON(file, r); err != nil {
		return err
	}
	if !r.Complete {
		return fmt.Errorf("%s: %d of %d sessions were held, %d verified, %d errors: %s", phase, r.Held, r.Conns, r.Verified, r.Client.Errors, r.Failure)
	}
	return nil
}

func writeJSON(file string, value any) error {
	data, err := json.MarshalIndent(value, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(data, '\n'), 0o644)
}

// report writes all results that there are, and their tables.
func (c *config) report() error {
	files, err := filepath.Glob(filepath.Join(c.cache, "results", "*.json"))
	if err != nil {
		return err
	}
	var all []*figures.Result
	for _, file := range files {
		r, err := read(file)
		if err != nil {
			return err
		}
		all = append(all, r)
	}
	if len(all) == 0 {
		return fmt.Errorf("there are no results: %w", fs.ErrNotExist)
	}
	slices.SortFunc(all, figures.Compare)
	if err := writeJSON(filepath.Join(c.cache, "million.json"), all); err != nil {
		return err
	}
	text := figures.Tables(all)
	fmt.Print("\n", text)
	return os.WriteFile(filepath.Join(c.cache, "million.md"), []byte(text), 0o644)
}
