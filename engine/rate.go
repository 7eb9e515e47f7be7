package engine

import (
	"fmt"

	"github.com/servercore-go/servercore/session"
)

// Rate bounds what each session receives. The zero value of a rate means no bound; of a burst, its default.
type Rate struct {
	// BytesPerSecond bounds the bytes read from the connection, what frames add included. At most 4 GiB.
	BytesPerSecond int

	// BurstBytes is how many bytes may come at once after a silence, and at the beginning. Default: BytesPerSecond, a
	// second's worth. At most 4 GiB. A session that had to wait may be given up to a tenth of a second's worth besides,
	// because deadlines are kept to 20 ms only.
	BurstBytes int

	// PacketsPerSecond bounds the calls of OnRecv: whole packets with a framer, otherwise what one read brings, which is up
	// to the network. BurstPackets is to it what BurstBytes is to BytesPerSecond.
	PacketsPerSecond int
	BurstPackets     int

	// End ends a session that is over it, with a reset and session.ErrRecvRate as the reason. Otherwise it is not read
	// until it may go on, and TCP holds the peer.
	//
	// A session that is paused for another reason (PauseRecv, PauseAbove) for longer than its bursts make up for may be
	// over it with what has piled up in the meantime.
	End bool
}

// RecvRate bounds what each session of a listener, or of a Dial, receives, by token buckets (the burst is what a bucket
// holds). In the long run the rate is exact. What has been read and has to wait, 64 KiB at the most, is kept, and delivered bit by
// bit; only a packet of a framer is never cut: it, or a read of 64 KiB that is a piece of it, is let through if there is one
// token, and paid for afterwards.
//
// A session that waits for tokens still sends, still notices the peer's reset, and acts on the peer's FIN when the bytes before it
// were delivered. IdleTimeout does not count the wait.
func RecvRate(r Rate) Option {
	r, err := r.withDefaults()
	return func(o *origin) error {
		o.rate = &session.Rate{
			BytesPerSecond:   r.BytesPerSecond,
			BurstBytes:       r.BurstBytes,
			PacketsPerSecond: r.PacketsPerSecond,
			BurstPackets:     r.BurstPackets,
			End:              r.End,
		}
		return err
	}
}

func (r Rate) withDefaults() (Rate, error) {
	if r.BytesPerSecond == 0 && r.PacketsPerSecond == 0 {
		return r, fmt.Errorf("RecvRate: neither Rate.BytesPerSecond nor Rate.PacketsPerSecond is set")
	}
	for _, f := range []struct {
		rateName, burstName string
		rate                int
		burst               *int
	}{
		{"BytesPerSecond", "BurstBytes", r.BytesPerSecond, &r.BurstBytes},
		{"PacketsPerSecond", "BurstPackets", r.PacketsPerSecond, &r.BurstPackets},
	} {
		if f.rate < 0 || f.rate > session.MaxRate {
			return r, fmt.Errorf("RecvRate: Rate.%s is %d, want 1 to %d, or 0 for no bound", f.rateName, f.rate, session.MaxRate)
		}
		if f.rate == 0 && *f.burst != 0 {
			return r, fmt.Errorf("RecvRate: Rate.%s is %d without Rate.%s", f.burstName, *f.burst, f.rateName)
		}
		if *f.burst == 0 {
			*f.burst = f.rate
		}
		if *f.burst < 0 || *f.burst > session.MaxRate {
			return r, fmt.Errorf("RecvRate: Rate.%s is %d, want 1 to %d, or 0 for Rate.%s", f.burstName, *f.burst, session.MaxRate,
				f.rateName)
		}
	}
	return r, nil
}
