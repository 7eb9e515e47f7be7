package main

import (
	"fmt"
	"io"
	"net"
	"time"
)

// holders is how many sessions hold the keys.
const holders = 100

// measureClaims claims keys on the first of three nodes, and looks them up and sends to them on another one.
func measureClaims(p plan) error {
	all, err := open(p, 3)
	if err != nil {
		return err
	}
	defer all.stop()
	for range holders {
		c, err := net.Dial("tcp", all[0].addr)
		if err != nil {
			return err
		}
		defer c.Close()
		go io.Copy(io.Discard, c)
	}
	if err := all.until("all sessions are known", func(a answer) bool { return a.Cluster.KnownMembers == holders }); err != nil {
		return err
	}
	if _, err := all[0].ask(order{Do: "claim", N: 1, At: 1}); err != nil { // the first one waits until the node has settled
		return err
	}
	before, err := all.sample(order{Do: "sample", N: 1})
	if err != nil {
		return err
	}
	fmt.Printf("%d keys of %d sessions on the first of three nodes\n", p.keys, holders)
	claims, err := all[0].ask(order{Do: "claim", N: p.keys, At: 64})
	if err != nil {
		return err
	}
	fmt.Printf("%-34s %9.0f claims/s, each p50 %v, p99 %v\n", "claims, 64 at a time:", perSecond(p.keys, claims.Took), round(claims.P50), round(claims.P99))
	if err := all.until("all claims are known", func(a answer) bool { return a.Cluster.KnownClaims == p.keys }); err != nil {
		return err
	}
	after, err := all.sample(order{Do: "sample", N: 1})
	if err != nil {
		return err
	}
	sum := 0.0
	for i := range all {
		bytes := (float64(after[i].Heap) - float64(before[i].Heap)) / float64(p.keys)
		sum += bytes
		what := "knows them"
		if i == 0 {
			what = "holds them"
		}
		fmt.Printf("memory per key, node %d, %s:   %9.0f B (RSS %.1f MiB)\n", i+1, what, bytes, float64(after[i].RSS)/(1<<20))
	}
	fmt.Printf("%-34s %9.0f B\n", "memory per key, all nodes:", sum)
	for _, o := range []order{{Do: "lookup", N: p.keys, At: 1}, {Do: "send", N: min(p.sends, p.keys), At: 1}, {Do: "send", N: min(p.sends, p.keys), At: 64}} {
		a, err := all[1].ask(o)
		if err != nil {
			return err
		}
		fmt.Printf("%-34s %9.0f /s, each p50 %v, p99 %v\n", fmt.Sprintf("%s on node 2, %d at a time:", o.Do, o.At), perSecond(o.N, a.Took), round(a.P50), round(a.P99))
	}
	return nil
}

func perSecond(n int, took time.Duration) float64 { return float64(n) / took.Seconds() }

func round(d time.Duration) time.Duration {
	if d > 10*time.Microsecond {
		return d.Round(100 * time.Nanosecond)
	}
	return d
}
