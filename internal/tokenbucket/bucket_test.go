package tokenbucket_test

import (
	"testing"
	"time"

	"github.com/servercore-go/servercore/internal/tokenbucket"
)

// A bucket gives out exactly its rate, in whatever steps time passes.
func TestRateIsExact(t *testing.T) {
	const rate = 1000
	b := tokenbucket.Full(0)
	passed := 0
	for range 20_000 {
		b.Fill(7*time.Millisecond/10, rate, 1, true)
		n := b.Tokens()
		b.Spend(n)
		passed += n
	}
	if want := 14 * rate; passed < want-1 || passed > want {
		t.Errorf("%d tokens in 14 s, want %d", passed, want)
	}
}

// A bucket never fills above its burst, nor above a tenth of a second more while the caller waits.
func TestBurstBoundsTheBucket(t *testing.T) {
	for _, tt := range []struct {
		waits bool
		want  int
	}{{false, 30}, {true, 130}} {
		b := tokenbucket.Full(0)
		b.Fill(time.Hour, 1000, 30, tt.waits)
		if n := b.Tokens(); n != tt.want {
			t.Errorf("waits %t: %d tokens, want %d", tt.waits, n, tt.want)
		}
	}
}

// A bucket that held more while the caller waited keeps it.
func TestTokensAreNotTakenBack(t *testing.T) {
	b := tokenbucket.Full(0)
	b.Fill(time.Hour, 1000, 30, true)
	b.Fill(time.Second, 1000, 30, false)
	if n := b.Tokens(); n != 130 {
		t.Errorf("%d tokens, want 130", n)
	}
}

// Highest rate, highest burst, longest time: nothing overflows.
func TestLargestBucketDoesNotOverflow(t *testing.T) {
	b := tokenbucket.Full(tokenbucket.Max)
	if n := b.Tokens(); n != tokenbucket.Max {
		t.Errorf("%d tokens, want %d", n, tokenbucket.Max)
	}
	b.Spend(tokenbucket.Max)
	b.Fill(1<<62, tokenbucket.Max, tokenbucket.Max, true)
	if n := b.Tokens(); n < tokenbucket.Max {
		t.Errorf("%d tokens, want %d or more", n, tokenbucket.Max)
	}
}

// Wait tells when there are tokens for a 50th of a second, and for one at least.
func TestWait(t *testing.T) {
	for _, tt := range []struct {
		rate, spent int
		want        time.Duration
	}{
		{rate: 0, spent: 5, want: 0},
		{rate: 1, spent: 0, want: time.Second},
		{rate: 1, spent: 2, want: 3 * time.Second},
		{rate: 1000, spent: 0, want: 20 * time.Millisecond},
		{rate: 1000, spent: -20, want: 0},
	} {
		b := tokenbucket.Full(0)
		b.Spend(tt.spent)
		if got := b.Wait(tt.rate); got != tt.want {
			t.Errorf("%+v: wait of %v", tt, got)
		}
	}
}
