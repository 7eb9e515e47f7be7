package wheel

import (
	"fmt"
	"testing"
	"time"
)

const benchItems = 100_000

func benchWheel() (*Wheel[*entry], []*entry) {
	w := New[*entry](100*time.Millisecond, 1024)
	entries := make([]*entry, benchItems)
	for i := range entries {
		entries[i] = &entry{id: i}
		w.Arm(entries[i], time.Duration(i)*time.Millisecond)
	}
	return w, entries
}

// The common case: a deadline is moved to a later time.
func BenchmarkArmLater(b *testing.B) {
	w, entries := benchWheel()
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		w.Arm(entries[i], 100*time.Second)
		if i++; i == benchItems {
			i = 0
		}
	}
}

func BenchmarkDisarmArm(b *testing.B) {
	w, entries := benchWheel()
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		w.Disarm(entries[i])
		w.Arm(entries[i], time.Duration(i)*time.Millisecond)
		if i++; i == benchItems {
			i = 0
		}
	}
}

// One op is one tick, in which about a thousandth of the items is due and armed again for the end of the horizon.
func BenchmarkExpire(b *testing.B) {
	w, _ := benchWheel()
	now := time.Duration(0)
	visits := 0
	visit := func(e *entry) {
		visits++
		w.Arm(e, now+100*time.Second)
	}
	b.ReportAllocs()
	for b.Loop() {
		now += 100 * time.Millisecond
		w.Expire(now, visit)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(visits), "ns/visit")
}

func BenchmarkNext(b *testing.B) {
	for _, slots := range []int{64, 1024, 16384} {
		b.Run(fmt.Sprint(slots), func(b *testing.B) {
			w := New[*entry](tick, slots)
			w.Arm(&entry{}, time.Duration(slots)*tick) // the last of all
			for b.Loop() {
				w.Next()
			}
		})
	}
}
