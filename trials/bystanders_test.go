//go:build linux

package trials

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// The bystanders are 50 sessions that have nothing to do with the trial and send 20 messages per second each (O6). They have a process of
// their own, so that the trial's clients do not delay them.
const (
	bystanders     = 50
	bystanderEvery = 50 * time.Millisecond
	bystanderBase  = 1 << 40 // of their connection numbers
)

// calm is what the bystanders have measured since the last report.
type calm struct {
	Answers       int
	P50, P99, Max time.Duration
	Reference     time.Duration // the P99 of a plain server that does nothing else, at the same time
	Errors        []string
	Each          map[uint64]time.Duration // the longest wait of each
	Ends          map[uint64]bool          // on leaving: all was received
	Read          map[uint64]int64         // on leaving: bytes
}

type crowd struct {
	paused atomic.Bool
	quit   chan struct{}
	done   sync.WaitGroup

	mu     sync.Mutex
	waits  []time.Duration
	plain  []time.Duration // of the reference
	each   map[uint64]time.Duration
	read   map[uint64]int64
	whole  map[uint64]bool
	errors []string
}

// referenceMain is the main function of an echo server of the standard library, whose latency shows that of the machine.
func referenceMain() int {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	answer(l.Addr().String())
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(c, c)
				_ = c.Close()
			}()
		}
	}()
	_, _ = io.Copy(io.Discard, os.Stdin)
	return 0
}

// bystandersMain is the main function of their process. Its commands are join ADDRESS REFERENCE, look, pause, resume and leave.
func bystandersMain() int {
	c := &crowd{quit: make(chan struct{}), each: map[uint64]time.Duration{}, read: map[uint64]int64{}, whole: map[uint64]bool{}}
	for commands := bufio.NewScanner(os.Stdin); commands.Scan(); {
		switch verb, argument, _ := strings.Cut(commands.Text(), " "); verb {
		case "join":
			c.join(argument)
		case "pause", "resume":
			c.paused.Store(verb == "pause")
		case "leave":
			close(c.quit)
			c.done.Wait()
		}
		answer(c.look())
	}
	return 0
}

// join connects all bystanders, and a few clients to the reference, and returns when each has had one answer.
func (c *crowd) join(addresses string) {
	address, reference, _ := strings.Cut(addresses, " ")
	var ready sync.WaitGroup
	for i := range bystanders / 5 {
		ready.Add(1)
		c.done.Go(func() { c.member(-1-i*5, reference, ready.Done) })
	}
	for i := range bystanders {
		ready.Add(1)
		c.done.Go(func() { c.member(i, address, ready.Done) })
	}
	ready.Wait()
}

func (c *crowd) member(i int, address string, ready func()) {
	ready = sync.OnceFunc(ready)
	defer ready()
	b, err := connect(dialer(0), address)
	if err != nil {
		c.failed(err)
		return
	}
	b.out.id = uint64(bystanderBase + i)
	b.in.id = b.out.id
	_ = b.SetReadDeadline(time.Now().Add(patience))
	if err := b.echo(64); err != nil {
		c.failed(err)
	}
	ready()
	next := time.Now().Add(bystanderEvery * time.Duration(max(i, -i)) / bystanders)
	var last time.Time // of the previous answer
	for {
		select {
		case <-c.quit:
			_ = b.CloseWrite()
			err := b.takeAll()
			_ = b.Close()
			if err != nil {
				c.failed(err)
			}
			if i < 0 {
				return
			}
			c.mu.Lock()
			c.whole[b.out.id], c.read[b.out.id] = b.in.whole(), b.in.bytes
			c.mu.Unlock()
			return
		case <-time.After(time.Until(next)):
		}
		if c.paused.Load() {
			next = time.Now().Add(bystanderEvery)
			continue
		}
		// If a message could not leave in time, because the one before it had no answer, its latency counts from the planned time.
		began := time.Now()
		if last.After(next) {
			began = next
		}
		_ = b.SetReadDeadline(time.Now().Add(patience))
		err := b.echo(64)
		last = time.Now()
		c.noted(b.out.id, last.Sub(began), err)
		if err != nil {
			_ = b.Close()
			return
		}
		next = next.Add(bystanderEvery)
	}
}

func (c *crowd) failed(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.errors = append(c.errors, err.Error())
}

func (c *crowd) noted(id uint64, wait time.Duration, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		c.errors = append(c.errors, err.Error())
		return
	}
	if id < bystanderBase {
		c.plain = append(c.plain, wait)
		return
	}
	c.waits = append(c.waits, wait)
	c.each[id] = max(c.each[id], wait)
}

func (c *crowd) look() calm {
	c.mu.Lock()
	defer c.mu.Unlock()
	slices.Sort(c.waits)
	slices.Sort(c.plain)
	r := calm{Reference: percentile(c.plain, 99), Answers: len(c.waits), P50: percentile(c.waits, 50), P99: percentile(c.waits, 99), Max: percentile(c.waits, 100),
		Errors: c.errors, Each: c.each, Ends: c.whole, Read: c.read}
	c.waits, c.plain, c.errors, c.each = nil, nil, nil, map[uint64]time.Duration{}
	return r
}

// percentile returns a percentile of a sorted list, 0 for an empty one.
func percentile(sorted []time.Duration, p int) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(len(sorted)-1, len(sorted)*p/100)]
}
