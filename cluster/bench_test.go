package cluster

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// Figures of one process, for a profile or a comparison; make measure-cluster has those of nodes that are processes: go test -run '^$' -bench . ./cluster. Receivers read on goroutines of this process, as everything else is in
// it, so CPU per delivery has clients, servers and NATS in it; the difference between one node and three is what crossing costs.

// benchNodes are embedded nodes, the first of which sends, with members in room r.
func benchNodes(b *testing.B, count, members int) ([]*node, *atomic.Int64) {
	var nodes []*node
	if count == 1 {
		nodes = []*node{open(b, Options{})}
	} else {
		all := three(b)
		nodes = all[:count]
	}
	var got atomic.Int64
	for i := range members {
		n := nodes[i%count]
		u := n.connect()
		n.Room("r").Join(u)
		go func() {
			buffer := make([]byte, 64<<10)
			for {
				k, err := u.conn.Read(buffer)
				if err != nil {
					return
				}
				got.Add(int64(k))
			}
		}()
	}
	eventually(b, "all members are known", func() bool { k, _ := nodes[0].Room("r").Len(context.Background()); return k == members })
	return nodes, &got
}

// Broadcast of 64 bytes to 600 members, on one node or on three: CPU per delivery, and bus messages per Broadcast and receiving node.
func BenchmarkBroadcast(b *testing.B) {
	for _, count := range []int{1, 3} {
		b.Run(fmt.Sprint("nodes=", count), func(b *testing.B) {
			const members, size = 600, 64
			nodes, got := benchNodes(b, count, members)
			p := make([]byte, size)
			before := cpu()
			b.ResetTimer()
			for i := range b.N {
				for nodes[0].Room("r").Broadcast(p) != nil {
					runtime.Gosched()
				}
				for int64(i+1)*size*members-got.Load() > 64*size*members { // no more than 64 are under way
					time.Sleep(100 * time.Microsecond)
				}
			}
			for got.Load() < int64(b.N)*size*members {
				time.Sleep(100 * time.Microsecond)
			}
			b.StopTimer()
			b.ReportMetric(float64(cpu()-before)/float64(b.N*members), "cpu-ns/delivery")
			received := uint64(0)
			for _, n := range nodes {
				received += n.Stats().Received
			}
			b.ReportMetric(float64(received)/float64(b.N*max(count-1, 1)), "bus-messages/node")
		})
	}
}

// Claims of 64 sessions' keys at a time on three nodes, and the memory that each known claim takes.
func BenchmarkClaim(b *testing.B) {
	all := three(b)
	n := all[0]
	u := n.connect()
	must(b, n.Claim(context.Background(), "first", u)) // the node has settled
	before := heap()
	b.ResetTimer()
	var claiming sync.WaitGroup
	var next atomic.Int64
	for range 64 {
		claiming.Go(func() {
			for {
				i := next.Add(1)
				if i > int64(b.N) {
					return
				}
				if err := n.Claim(context.Background(), fmt.Sprint("player-", i), u); err != nil {
					b.Error(err)
				}
			}
		})
	}
	claiming.Wait()
	b.StopTimer()
	eventually(b, "all know all", func() bool { return all[2].Stats().KnownClaims == b.N+1 && all[1].Stats().KnownClaims == b.N+1 })
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "claims/s")
	b.ReportMetric(float64(heap()-before)/float64(b.N), "B/key-on-3-nodes")
	runtime.KeepAlive(all)
}

// Send to a key of another node, one at a time and 64 at a time; and a look-up.
func BenchmarkSend(b *testing.B) {
	all := three(b)
	u := all[1].connect()
	must(b, all[1].Claim(context.Background(), "k", u))
	eventually(b, "it is known", func() bool { return all[0].Holder("k") == all[1].ID() })
	go func() {
		for {
			if _, err := u.lines.Discard(1); err != nil {
				return
			}
		}
	}()
	p := make([]byte, 64)
	b.Run("one", func(b *testing.B) {
		for range b.N {
			must(b, all[0].Send(context.Background(), "k", p))
		}
	})
	b.Run("64", func(b *testing.B) {
		b.SetParallelism(32)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if err := all[0].Send(context.Background(), "k", p); err != nil {
					b.Error(err)
				}
			}
		})
	})
	b.Run("lookup", func(b *testing.B) {
		for range b.N {
			all[0].Holder("k")
		}
	})
}

// cpu is the process's CPU time.
func cpu() time.Duration {
	var r syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &r)
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// heap is the live memory, in bytes.
func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
