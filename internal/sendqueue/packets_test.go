package sendqueue

import (
	"math/rand/v2"
	"testing"
)

// Packets agrees with a plain list of them, whatever leaves when.
func TestPacketsAreThoseThatWereAdded(t *testing.T) {
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 1))
		var p Packets
		var model []packetRun
		waiting, left := 0, 0 // bytes, and those of the first packet that have left
		for range 200 {
			if random.IntN(3) > 0 && len(model) < random.IntN(6) {
				wire := random.IntN(40) + 1
				payload := random.IntN(60) // more than travels, if it is compressed
				p.Add(wire, payload)
				model = append(model, packetRun{wire, payload, 1})
				waiting += wire
			} else {
				n := random.IntN(waiting + 1)
				if random.IntN(3) == 0 {
					n = waiting
				}
				gone, told := p.Sent(n)
				waiting, left = waiting-n, left+n
				count, sum := 0, 0
				for len(model) > 0 && left >= model[0].wire {
					left -= model[0].wire
					count, sum = count+1, sum+model[0].payload
					model = model[1:]
				}
				if gone != count || told != sum {
					t.Fatalf("seed %d: Sent(%d) is %d packets with %d bytes, want %d with %d", seed, n, gone, told, count, sum)
				}
			}
			sum, rest := 0, 0
			for _, m := range model {
				sum += m.payload
			}
			if left > 0 {
				rest = model[0].wire - left
			}
			if p.Payload() != sum || p.Rest() != rest || p.partly() != left || p.isEmpty() != (len(model) == 0) {
				t.Fatalf("seed %d: payload %d, rest %d, partly %d, empty %v; want %d, %d, %d, %v", seed,
					p.Payload(), p.Rest(), p.partly(), p.isEmpty(), sum, rest, left, len(model) == 0)
			}
		}
		want := p.Payload()
		if got := p.Drop(); got != want || !p.isEmpty() || p.Payload() != 0 {
			t.Fatalf("seed %d: Drop returns %d, want %d; then the payload is %d", seed, got, want, p.Payload())
		}
	}
}

func TestOnePacketNeedsNoList(t *testing.T) {
	var p Packets
	for range 3 {
		p.Add(66, 64)
		if p.list != nil {
			t.Fatal("one packet has a list")
		}
		if n, payload := p.Sent(66); n != 1 || payload != 64 || p.list != nil {
			t.Fatalf("%d packets with %d bytes have left, list %v; want 1 with 64, and none", n, payload, p.list != nil)
		}
	}
}
