package bench

import (
	"math"
	"testing"
)

func TestPacerUniform(t *testing.T) {
	// Three workers share 3,000 per second: together they plan one message every third of a millisecond.
	for n := range 3 {
		p := newPacer(Uniform, 1000, float64(n)/3, 0)
		for i := range 5000 {
			want := int64(1e6 * (float64(i) + float64(n)/3))
			if got := p.peek(); max(got-want, want-got) > 1 {
				t.Fatalf("worker %d, message %d at %d ns, want %d", n, i, got, want)
			}
			p.advance()
		}
	}
}

func TestPacerPoisson(t *testing.T) {
	const n, rate = 200_000, 10_000
	p, same, other := newPacer(Poisson, rate, 0, 1), newPacer(Poisson, rate, 0, 1), newPacer(Poisson, rate, 0, 2)
	var last int64
	var sum, squares float64
	differs := false
	for range n {
		at := p.peek()
		if at < last {
			t.Fatalf("%d after %d", at, last)
		}
		if same.peek() != at {
			t.Fatal("the same seed plans other times")
		}
		differs = differs || other.peek() != at
		gap := float64(at-last) / 1e9
		sum, squares, last = sum+gap, squares+gap*gap, at
		p.advance()
		same.advance()
		other.advance()
	}
	// The gaps of a Poisson process have a mean and a deviation of one over the rate. Seeds are fixed: this either
	// always holds or never does.
	mean := sum / n
	deviation := math.Sqrt(squares/n - mean*mean)
	if math.Abs(mean*rate-1) > 0.01 || math.Abs(deviation*rate-1) > 0.01 || !differs {
		t.Errorf("mean %v s, deviation %v s, other seed differs: %v", mean, deviation, differs)
	}
}
