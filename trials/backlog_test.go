//go:build linux

package trials

import (
	"encoding/binary"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/servercore-go/servercore/engine"
	"github.com/servercore-go/servercore/session"
)

const (
	verbSmall = 's' // 8 bytes: send so many records of 64 bytes, all at once
	verbEnter = 'r' // enter the room
)

// roomID is the connection number in what is broadcast: all members get the same bytes.
const roomID = 1 << 50

func init() {
	plans["T14"] = func() plan {
		return plan{options: engine.Options{SendLimit: -1, WriteTimeout: time.Minute}, verb: func(m *member, payload []byte) {
			memory := make([]byte, 0, 64)
			small := make([]byte, 64-headerSize)
			small[0] = verbNothing
			for range number(payload) {
				_ = m.sendIn(memory, small)
			}
		}}
	}
	plans["T15"] = func() plan {
		var room session.Group
		out := writer{id: roomID}
		return plan{
			options: engine.Options{SendLimit: 64 << 10, SendBuffer: 16 << 10, WriteTimeout: -1},
			verb:    func(m *member, payload []byte) { room.Join(m); _ = m.send(payload) },
			command: func(_ *content, argument string) any {
				n, _ := strconv.Atoi(argument)
				payload := make([]byte, 1<<10)
				payload[0] = verbNothing
				for began, i := time.Now(), 0; i < n; i++ {
					time.Sleep(time.Until(began.Add(time.Duration(i) * 10 * time.Millisecond)))
					binary.LittleEndian.PutUint64(payload[1:], uint64(monotonic()))
					room.Broadcast(out.add(nil, payload))
				}
				return room.Skipped()
			},
		}
	}
}

// T14: a backlog of small messages costs memory by its length, and leaves in large writes.
func TestT14SmallMessages(t *testing.T) {
	o := begin(t, "T14", how{})
	counts := []int{20_000, 160_000}
	if full() {
		counts = append(counts, 1_000_000)
	}
	took := make([]time.Duration, len(counts))
	ask[calm](o.crowd, "pause") // the processor time of the backlog alone
	for i, n := range counts {
		took[i] = time.Hour
		writes := uint64(0)
		for range 3 {
			c := o.connectSmall(64 << 10)
			must(t, c.echo(64))
			before, began := o.report().Stats.Total, o.server.processor()
			must(t, c.ask(request(verbSmall, n)))
			// The reader starts when everything is queued, or the kernel's buffers are full.
			if _, ok := eventually(patience, func() bool { return o.report().Stats.Total.WouldBlock > before.WouldBlock }); !ok {
				t.Fatal("the kernel took it all")
			}
			want := c.in.bytes + int64(64*n)
			err := c.take(make([]byte, 256<<10), nil, func() bool { return c.in.bytes >= want })
			took[i] = min(took[i], o.server.processor()-began)
			must(t, err)
			writes = max(writes, o.report().Stats.Total.Writes-before.Writes)
			must(t, c.CloseWrite())
			must(t, c.takeAll())
		}
		most := uint64(64*n/(8<<10) + n/512)
		o.check("writes <= bytes/8 KiB + messages/512", writes <= most, "%d messages in %d writes, allowed are %d; %v of processor time", n, writes, most,
			round(took[i]))
	}
	ask[calm](o.crowd, "resume")
	factor := float64(took[1]) / float64(took[0])
	o.check("CPU(160 k) / CPU(20 k) <= 10", factor <= 10, "%.1f", factor)
	o.finish()
}

// enterRoom connects n clients that enter the room.
func (o *oracle) enterRoom(n int) []*client {
	o.t.Helper()
	members := make([]*client, n)
	each(n, 20, func(i int) {
		c, err := connect(dialer(0), o.at.Records)
		must(o.t, err)
		o.t.Cleanup(func() { _ = c.Close() })
		seconds(o.t, time.Minute+patience, c)
		must(o.t, c.ask([]byte{verbEnter}))
		must(o.t, c.take(make([]byte, 4<<10), nil, func() bool { return c.in.seq == 1 }))
		members[i] = c
	})
	return members
}

// countWrong returns how many members did not get exactly the given number of bytes, in whole records.
func countWrong(members []*client, bytes int64) (wrong int) {
	for _, c := range members {
		if c.in.wrong != nil || !c.in.whole() || c.in.bytes != bytes {
			wrong++
		}
	}
	return wrong
}

// T15: a member of a room that reads nothing delays no other member.
func TestT15SlowConsumerInRoom(t *testing.T) {
	o := begin(t, "T15", how{})
	n := scaled(1000, 100)
	members := o.enterRoom(n)
	var mu sync.Mutex
	var waits []time.Duration
	var readers sync.WaitGroup
	for _, c := range members {
		readers.Go(func() {
			c.out.id, c.in = roomID, reader{id: roomID} // from here on
			_ = c.take(make([]byte, 16<<10), func(payload []byte) {
				wait := time.Duration(monotonic() - int64(binary.LittleEndian.Uint64(payload[1:])))
				mu.Lock()
				waits = append(waits, wait)
				mu.Unlock()
			}, nil)
		})
	}
	count := int(lasting(10*time.Second, 1500*time.Millisecond) / (10 * time.Millisecond))
	play := func() (p50, p99 time.Duration) {
		ask[uint64](o.server, "broadcast "+strconv.Itoa(count))
		var heard []time.Duration
		if _, ok := eventually(patience, func() bool {
			mu.Lock()
			defer mu.Unlock()
			if len(waits) < n*count {
				return false
			}
			heard, waits = waits, nil
			return true
		}); !ok {
			t.Fatalf("not all of %d messages have arrived", n*count)
		}
		slices.Sort(heard)
		return percentile(heard, 50), percentile(heard, 99)
	}
	half, most := play()
	slow, err := connect(dialer(4<<10), o.at.Records) // not one of the oracle's: it ends with much unread
	must(t, err)
	must(t, slow.ask([]byte{verbEnter}))
	halfWith, mostWith := play()
	skipped := ask[uint64](o.server, "broadcast 0")
	for _, c := range members {
		_ = c.CloseWrite()
	}
	readers.Wait()
	wrong := countWrong(members, int64(2*count*(headerSize+1<<10)))
	o.check("every byte to the others", wrong == 0 && skipped > 0, "%d of %d members miss something; the slow one misses %d messages of %d", wrong, n, skipped, count)
	// Below full scale the machine runs other work too, so the tail of the latency says nothing of the engine.
	added, bound := mostWith-most, 5*time.Millisecond
	if !full() {
		added, bound = halfWith-half, 500*time.Millisecond
	}
	o.check("delay added to others, p99 <= 5 ms", added <= bound,
		"p99 %v with, %v without; p50 %v and %v", round(mostWith), round(most), round(halfWith), round(half))
	_ = slow.Close()
	o.finish()
}
