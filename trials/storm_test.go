//go:build linux

package trials

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/servercore-go/servercore/engine"
)

func init() {
	plans["T37"] = func() plan {
		p := plans["T36"]()
		p.options = engine.Options{Loops: 2, SendLimit: 64 << 10, SendBuffer: 16 << 10, LingerTimeout: 300 * time.Millisecond}
		p.command = func(c *content, argument string) any {
			go abuseFor(c, argument) // reports are wanted meanwhile
			return nil
		}
		return p
	}
}

// T37: sessions end from both sides and their descriptors are reused all the time, and no byte reaches a wrong session. The trial is
// strong enough only if the poller returns events for connections that have ended; traced system calls show that.
//
// Fails if a descriptor is used after its connection has ended: have giveUp in internal/reactor/conn.go close it once more, a millisecond later.
func TestT37DescriptorReuse(t *testing.T) {
	trace := filepath.Join(t.TempDir(), "trace")
	strace := tool(t, "T37", "strace")
	var stale, reused int
	o := storm(t, "T37 traced", lasting(30*time.Second, 3*time.Second), func() bool {
		stale, reused = staleEvents(t, trace)
		return stale > 0
	}, strace, "-f", "-qq", "--seccomp-bpf", "-o", trace, "-e", "trace=epoll_wait,read,readv,recvfrom,write,writev,shutdown,close,accept4")
	o.check(">= 1 stale event seen", stale > 0, "%d events for descriptors closed since they were fetched, %d of them another connection's already",
		stale, reused)
	d := 5 * time.Second
	if full() {
		d = 5 * time.Minute
	}
	storm(t, "T37", d, func() bool { return true })
}

// storm lasts for d, and then until it is strong enough, at most ten times d.
func storm(t *testing.T, name string, d time.Duration, enough func() bool, wrapper ...string) *oracle {
	t.Helper()
	o := begin(t, name, how{alone: true, wrapper: wrapper})
	var sessions atomic.Int64
	stop := make(chan struct{})
	var crowd sync.WaitGroup
	for range 100 {
		crowd.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				sessions.Add(1)
				o.stormy()
			}
		})
	}
	began := time.Now()
	for over := began; time.Since(began) < d || time.Since(began) < 10*d && !enough(); {
		if time.Now().After(over) {
			over = time.Now().Add(d)
			ask[any](o.server, "abuse "+strconv.FormatFloat(d.Seconds(), 'f', 1, 64))
		}
		time.Sleep(100 * time.Millisecond)
		o.report() // the server need not keep the records of all who left
	}
	close(stop)
	crowd.Wait()
	ok := o.released()
	bad := 0
	for _, c := range o.clients {
		if c.in.wrong != nil {
			bad++
		}
	}
	r := o.report()
	o.check("0 bad records", ok && bad == 0 && len(r.Faults) == 0, "%d sessions in %v, %d bad records, faults %v", sessions.Load(), time.Since(began).Round(time.Second), bad, r.Faults)
	o.finish()
	return o
}

// stormy is a client that sends a request and ends its connection in one of several ways.
func (o *oracle) stormy() {
	receive := 0
	if rand.IntN(3) == 0 {
		receive = 4 << 10
	}
	c, err := connect(dialer(receive), o.at.Records)
	if err != nil {
		return // reset before connect had returned
	}
	o.watch(c)
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(500 * time.Millisecond)) // the server may have paused it for good
	if rand.IntN(2) == 0 {
		_ = c.ask([]byte{verbTrap}) // from now on others use its session
	}
	buf := make([]byte, 32<<10)
	some := func() bool { return c.in.seq >= 3 }
	switch rand.IntN(6) {
	case 0:
		_ = c.ask(request(verbGive, 256<<10))
		_ = c.take(buf, nil, some)
		c.reset()
	case 1:
		_ = c.ask(request(verbGive, 256<<10))
		_ = c.CloseWrite()
		_ = c.takeAll()
	case 2:
		_ = c.ask(request(verbGive, 256<<10))
		_ = c.take(buf, nil, some)
	case 3:
		_ = c.ask(request(verbQuit, 64<<10))
		_ = c.takeAll()
	case 4:
		c.reset()
	default:
		for range 10 {
			if c.ask(append([]byte{verbEcho}, buf[:rand.IntN(2000)]...)) != nil {
				break
			}
		}
		_ = c.CloseWrite()
		_ = c.takeAll()
	}
}

var (
	fetchedLine  = regexp.MustCompile(`epoll_wait\((\d+), \[(.*)\], \d+, .* = \d+$`)
	fetchedEvent = regexp.MustCompile(`data=\{?u32=(\d+)`)
	otherCall    = regexp.MustCompile(`(read|readv|recvfrom|write|writev|shutdown|close|accept4)\((\d+).* = (-?\d+)`)
)

// staleEvents counts, in the output of strace, events whose descriptor was closed after epoll returned the event and before the loop
// handled it; and how many of the descriptors belonged to another connection before the loop fetched its next events.
func staleEvents(t *testing.T, trace string) (stale, reused int) {
	t.Helper()
	data, err := os.ReadFile(trace)
	must(t, err)
	open := map[string]string{}             // what a thread had begun when strace turned to another
	batches := map[string]map[string]bool{} // by epoll descriptor: fetched and not looked at yet
	closed := map[string]map[string]bool{}  // and closed since
	for line := range bytes.Lines(data) {
		thread, call, _ := strings.Cut(strings.TrimSpace(string(line)), " ")
		call = strings.TrimSpace(call)
		if begun, ok := strings.CutSuffix(call, "<unfinished ...>"); ok {
			open[thread] = begun
			if epoll, ok := strings.CutPrefix(begun, "epoll_wait("); ok {
				epoll, _, _ = strings.Cut(epoll, ",")
				delete(batches, epoll)
				delete(closed, epoll)
			}
			continue
		}
		if strings.HasPrefix(call, "<...") {
			_, rest, _ := strings.Cut(call, "resumed>")
			call = open[thread] + rest
		}
		if m := fetchedLine.FindStringSubmatch(call); m != nil {
			batches[m[1]], closed[m[1]] = map[string]bool{}, map[string]bool{}
			for _, e := range fetchedEvent.FindAllStringSubmatch(m[2], -1) {
				batches[m[1]][e[1]] = true
			}
			continue
		}
		m := otherCall.FindStringSubmatch(call)
		if m == nil {
			continue
		}
		for epoll, batch := range batches {
			switch fd := m[2]; m[1] {
			case "accept4":
				if closed[epoll][m[3]] {
					delete(closed[epoll], m[3])
					reused++
				}
			case "close":
				if batch[fd] {
					delete(batch, fd)
					closed[epoll][fd] = true
					stale++
				}
			default:
				delete(batch, fd)
			}
		}
	}
	return stale, reused
}
