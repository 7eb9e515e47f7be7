//go:build linux

package trials

import (
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/servercore-go/servercore/engine"
)

// sendBuffers are the ways to bound what the kernel holds, by the name of their server in T51's table.
var sendBuffers = []struct {
	name    string
	options engine.Options
}{
	{"default", engine.Options{}},
	{"SO_SNDBUF 256 KiB", engine.Options{SendBuffer: 256 << 10, NotSentLowWater: -1}},
	{"no bound", engine.Options{NotSentLowWater: -1}},
	{"not sent 64 KiB", engine.Options{NotSentLowWater: 64 << 10}},
	{"not sent 128 KiB", engine.Options{NotSentLowWater: 128 << 10}},
	{"not sent 512 KiB", engine.Options{NotSentLowWater: 512 << 10}},
}

// packageNet is the name of the control in the table: a server of package net, whose buffers the kernel tunes.
const packageNet = "package net"

func init() {
	stall := lasting(10*time.Second, 5*time.Second)
	for _, b := range sendBuffers {
		plans["T51 "+b.name] = func() plan {
			b.options.WriteTimeout, b.options.UserTimeout = stall, time.Minute
			return plan{address: farAddress + ":0", options: b.options}
		}
	}
}

// streamsMain is the main function of the control: it serves verbGive and takes records, with a goroutine for each connection.
func streamsMain() int {
	l, err := net.Listen("tcp", farAddress+":0")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	answer(hello{PID: os.Getpid(), Records: l.Addr().String()})
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go stream(c)
		}
	}()
	_, _ = io.Copy(io.Discard, os.Stdin)
	return 0
}

func stream(c net.Conn) {
	defer c.Close()
	var in reader
	var out writer
	owed, buf, record := 0, make([]byte, 64<<10), make([]byte, 0, giveRecord)
	for {
		n, err := c.Read(buf)
		if err == nil {
			err = in.feed(buf[:n], func(payload []byte) {
				if out.id = in.id; payload[0] == verbGive {
					owed += number(payload)
				}
			})
		}
		for ; owed > 0 && err == nil; owed -= giveRecord {
			_, err = c.Write(out.add(record, given[:]))
		}
		if err != nil {
			return
		}
	}
}

// bulk is a number of streams to or from one server, as fast as they go.
type bulk struct {
	server  *process
	address string
	clients []*client
	moved   atomic.Int64 // bytes that the clients have read, or written
	still   atomic.Bool  // the clients read no more
	done    sync.WaitGroup
}

// connect connects n clients, of which seen is told, each with a receive buffer of so many bytes, 0 for the kernel's own.
func (b *bulk) connect(t *testing.T, from *namespace, n, receive int, seen func(*client)) {
	t.Helper()
	b.clients = make([]*client, n)
	each(n, 20, func(i int) {
		from.do(func() {
			c, err := connect(dialer(receive), b.address)
			must(t, err)
			b.clients[i] = c
		})
	})
	for _, c := range b.clients {
		seen(c)
	}
}

// start starts a stream through each connection.
func (b *bulk) start(t *testing.T, down bool) {
	t.Helper()
	for _, c := range b.clients {
		if !down {
			b.done.Go(func() { b.write(c) })
			continue
		}
		must(t, c.ask(request(verbGive, 1<<40)))
		b.done.Go(func() {
			var before int64
			_ = c.take(make([]byte, 256<<10), nil, func() bool {
				b.moved.Add(c.in.bytes - before)
				before = c.in.bytes
				return b.still.Load()
			})
		})
	}
}

func (b *bulk) write(c *client) {
	payload := make([]byte, maxPayload)
	payload[0] = verbNothing
	for record := []byte(nil); ; {
		record = c.out.add(record[:0], payload)
		n, err := c.Write(record)
		if b.moved.Add(int64(n)); err != nil {
			return
		}
	}
}

// rates waits until the streams have got under way, and returns the bytes a second of each bulk in the time after that.
func rates(bulks []*bulk, before, during time.Duration) (each []float64) {
	time.Sleep(before)
	began, at := time.Now(), make([]int64, len(bulks))
	for i, b := range bulks {
		at[i] = b.moved.Load()
	}
	time.Sleep(during)
	for i, b := range bulks {
		each = append(each, float64(b.moved.Load()-at[i])/time.Since(began).Seconds())
	}
	return each
}

var (
	queued = regexp.MustCompile(`skmem:\(\S*,w(\d+),`)
	peerAt = regexp.MustCompile(nearAddress + `:(\d+)`)
)

// kernelHolds returns what the kernel holds, in bytes with its overhead, to send to each of the clients (sk_wmem_queued, by ss).
func kernelHolds(t *testing.T, far *namespace, address string) map[string]int {
	t.Helper()
	_, port := split(t, address)
	var out []byte
	var err error
	far.do(func() { out, err = exec.Command("ss", "-tnmOH", "state", "established", "sport = :"+port).Output() })
	must(t, err)
	each := make(map[string]int)
	for line := range strings.Lines(string(out)) {
		w, peer := queued.FindStringSubmatch(line), peerAt.FindStringSubmatch(line)
		if w != nil && peer != nil { // a bystander comes from the far side
			n, err := strconv.Atoi(w[1])
			must(t, err)
			each[peer[1]] = n
		}
	}
	return each
}

// T51: on a line of 100 ms a connection is as fast as package net's, whose buffers the kernel tunes, and a peer that does not read, be it from
// the first byte or after a fast start, still costs the kernel no more than NotSentLowWater and a packet. At full scale come tables of other
// delays, numbers of streams, directions and send buffers.
//
// Fails with a fixed send buffer: have the plan of "T51 default" set SendBuffer to 256 KiB; and without a bound: have it set NotSentLowWater to -1.
func TestT51LongFatLine(t *testing.T) {
	const rtt = 100 * time.Millisecond
	tool(t, "T51", "ss")
	near, far, _ := newFatLine(t, "T51", rtt/2)
	o := begin(t, "T51 default", how{from: near, inside: far})
	o.name = "T51"
	ours, control := &bulk{address: o.at.Records}, &bulk{server: startIn(far, t, "streams")}
	control.address = heard[hello](control.server, "start").Records
	n := scaled(10, 2)
	ours.connect(t, near, n, 0, o.watch)
	control.connect(t, near, n, 0, unwatched)
	ours.start(t, true)
	control.start(t, true)
	whole := o.connect()
	must(t, whole.ask(request(verbQuit, 4<<20)))
	wholeErr := make(chan error, 1)
	go func() { wholeErr <- whole.takeAll() }()
	r := rates([]*bulk{ours, control}, lasting(5*time.Second, 1200*time.Millisecond), lasting(5*time.Second, 800*time.Millisecond))
	fixed := float64(2*256<<10) / rtt.Seconds() * float64(n)
	o.check("as fast as package net (half of it at least), and faster than SO_SNDBUF = 256 KiB allows", r[0] >= r[1]/2 && r[0] > fixed,
		"%.1f MB/s, package net %.1f, that is %.2f; the fixed buffer allows %.1f; %d streams each", r[0]/1e6, r[1]/1e6, r[0]/r[1], fixed/1e6, n)
	err := <-wholeErr
	o.check("Disconnect delivers 4 MiB", err == nil && whole.in.bytes == 4<<20, "%d bytes, %v", whole.in.bytes, err)
	control.stop()
	o.stopReading(near, far, ours)
	o.calmSoFar()
	o.calmBound = 2 * o.during.Reference // the streams take what the machine has
	o.finish()
	if full() {
		fastTable(t)
		slowTable(t)
	}
}

// stop ends all streams.
func (b *bulk) stop() {
	for _, c := range b.clients {
		c.reset()
	}
	b.done.Wait()
}

// stopReading has clients stop that were fast, and others come that never read, and judges what the kernel holds for each.
func (o *oracle) stopReading(near, far *namespace, fast *bulk) {
	o.t.Helper()
	silent := &bulk{address: fast.address}
	silent.connect(o.t, near, scaled(100, 10), 4<<10, o.watch)
	silent.ask(o.t)
	most := fast.stopReading(o.t, far, silent)
	bound := 256<<10 + 128<<10 // a packet of 64 KiB, and what the kernel counts for its own records of them
	o.check("the kernel holds <= NotSentLowWater + 128 KiB for a peer that does not read", max(most[0], most[1]) <= bound && min(most[0], most[1]) > 0,
		"%d KiB at most for %d that never read, %d KiB for %d that were fast before", most[1]>>10, len(silent.clients), most[0]>>10, len(fast.clients))
	if !full() {
		return // the end of a stalled session is not worth the wait
	}
	all := append(silent.clients, fast.clients...)
	stalled := 0
	for _, c := range all {
		if because(o.ended(c, patience), "write stall") {
			stalled++
		}
	}
	o.check("ended by WriteTimeout", stalled == len(all), "%d of %d", stalled, len(all))
}

// unwatched is for clients that no oracle judges. Their test resets them.
func unwatched(*client) {}

// ask has each client ask for much, which nobody reads.
func (b *bulk) ask(t *testing.T) {
	t.Helper()
	for _, c := range b.clients {
		must(t, c.ask(request(verbGive, 1<<30)))
	}
}

// stopReading has the clients of b stop, and returns the most that the kernel holds for one of them, and for one of the silent, when nothing
// moves any more.
func (b *bulk) stopReading(t *testing.T, far *namespace, silent *bulk) (most [2]int) {
	t.Helper()
	b.still.Store(true)
	b.done.Wait()
	var last map[string]int
	unchanged := 0
	eventually(patience, func() bool {
		now := kernelHolds(t, far, b.address)
		if unchanged++; !maps.Equal(now, last) {
			last, unchanged = now, 0
		}
		time.Sleep(50 * time.Millisecond)
		return unchanged >= 8
	})
	for i, b := range []*bulk{b, silent} {
		for _, c := range b.clients {
			_, port := split(t, c.LocalAddr().String())
			most[i] = max(most[i], last[port])
		}
	}
	return most
}

// forEachBuffer starts a server for the control, and one for each send buffer, one after the other.
func forEachBuffer(t *testing.T, far *namespace, f func(name string, b *bulk)) {
	serve := func(name, role string) {
		b := &bulk{server: startIn(far, t, role)}
		b.address = heard[hello](b.server, "start").Records
		f(name, b)
		b.server.kill()
	}
	serve(packageNet, "streams")
	for _, buffer := range sendBuffers {
		serve(buffer.name, "server T51 "+buffer.name)
	}
}

// fastTable prints how much streams carry on several lines, and what the kernel holds for each meanwhile.
func fastTable(t *testing.T) {
	t.Log("\n| round trip | streams | send buffer | MB/s | of package net's | the kernel holds, KiB each | the server's CPU, s per GB |\n|---|---|---|---|---|---|---|")
	for _, rtt := range []time.Duration{20 * time.Millisecond, 100 * time.Millisecond, 300 * time.Millisecond} {
		near, far, _ := newFatLine(t, "T51", rtt/2)
		for _, down := range []bool{true, false} {
			for _, n := range []int{1, 100} {
				base := 0.0
				forEachBuffer(t, far, func(name string, b *bulk) {
					if !down && name != packageNet && name != sendBuffers[0].name {
						return // they differ in what they send
					}
					used := b.server.processor()
					b.connect(t, near, n, 0, unwatched)
					b.start(t, down)
					rate := rates([]*bulk{b}, max(3*time.Second, 20*rtt), 5*time.Second)[0]
					used = b.server.processor() - used
					holds := 0
					for _, m := range kernelHolds(t, far, b.address) {
						holds += m
					}
					moved := b.moved.Load()
					b.stop()
					if base == 0 {
						base = rate
					}
					t.Logf("| %v | %d %s | %s | %.1f | %.2f | %d | %.1f |", rtt, n, map[bool]string{true: "down", false: "up"}[down], name,
						rate/1e6, rate/base, holds/n>>10, used.Seconds()/(float64(moved)/1e9))
				})
			}
		}
	}
}

// slowTable prints what the kernel holds for peers that do not read.
func slowTable(t *testing.T) {
	t.Log("\n| send buffer | the kernel holds, KiB: for a peer that never read | for one that was fast before |\n|---|---|---|")
	near, far, _ := newFatLine(t, "T51", 50*time.Millisecond)
	forEachBuffer(t, far, func(name string, b *bulk) {
		b.connect(t, near, 5, 0, unwatched)
		b.start(t, true)
		rates(nil, 3*time.Second, 0)
		silent := &bulk{address: b.address}
		silent.connect(t, near, 20, 4<<10, unwatched)
		silent.ask(t)
		most := b.stopReading(t, far, silent)
		t.Logf("| %s | %d | %d |", name, most[1]>>10, most[0]>>10)
		b.stop()
		silent.stop()
	})
}
