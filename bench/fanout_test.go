package bench

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/servercore-go/servercore/internal/steady"
)

// fanoutOverNodes is a plan whose publisher connects to one address and whose subscribers to as many others, of one server. fault, if set,
// gets each message for a subscriber, the number of its address and of the message, and returns what is sent instead.
func fanoutOverNodes(t testing.TB, nodes, rate int, fault func(node, number int, m []byte) []byte) Plan {
	t.Helper()
	var mu sync.Mutex
	members := make(map[*net.TCPConn]int)
	number := 0
	serve := func(node int) string {
		return peer(t, func(_ int, c *net.TCPConn) {
			mu.Lock()
			members[c] = node
			mu.Unlock()
			for rest, b := []byte(nil), make([]byte, 64<<10); ; {
				n, err := c.Read(b)
				mu.Lock()
				if err != nil {
					delete(members, c)
					mu.Unlock()
					return
				}
				for rest = append(rest, b[:n]...); len(rest) >= 64; rest = rest[64:] {
					number++
					for m, at := range members {
						out := append([]byte(nil), rest[:64]...)
						if fault != nil {
							out = fault(at, number, out)
						}
						if m != c {
							m.Write(out)
						}
					}
				}
				mu.Unlock()
			}
		})
	}
	p := short(Fanout, serve(0))
	var subscribe []string
	for i := range nodes {
		subscribe = append(subscribe, serve(1+i))
	}
	p.Subscribe, p.Rate = strings.Join(subscribe, ", "), float64(rate)
	p.Conns = 4 * nodes
	return p
}

// Subscribers are dealt to the addresses, and what comes at each is counted and timed by itself.
func TestFanoutOverNodes(t *testing.T) {
	steady.Run(t, func(t testing.TB) {
		for _, rate := range []int{0, 500} {
			p := fanoutOverNodes(t, 3, rate, nil)
			p.Conns = 10
			r := carryOut(t, p)
			wantErrors(t, r, nil)
			if len(r.Addresses) != 3 || r.Addresses[0].Subscribers != 4 || r.Addresses[1].Subscribers != 3 || r.Addresses[2].Subscribers != 3 {
				t.Fatalf("rate %d: %+v", rate, r.Addresses)
			}
			deliveries, timed := uint64(0), uint64(0)
			for i, a := range r.Addresses {
				deliveries += a.Deliveries
				timed += a.Count
				if a.Deliveries == 0 || a.DeliveriesPerS == 0 || a.P50 == 0 || a.Lost+a.Doubled+a.OutOfOrder+a.Wrong+a.Overdue != 0 || a.Addr != p.subscribe()[i] {
					t.Errorf("rate %d: %+v", rate, a)
				}
			}
			if deliveries != r.Totals.Messages || timed != r.Find("delivery").Count {
				t.Errorf("rate %d: %d deliveries at the addresses, %d in all; %d and %d have a time", rate, deliveries, r.Totals.Messages, timed, r.Find("delivery").Count)
			}
			var b strings.Builder
			if err := r.WriteTable(&b); err != nil {
				t.Fatal(err)
			}
			for _, a := range r.Addresses {
				if want := fmt.Sprintf("\n%-24s%12d %12d ", a.Addr, a.Subscribers, a.Deliveries); !strings.Contains(b.String(), want) {
					t.Errorf("the table has no line that begins with %q:\n%s", want, b.String())
				}
			}
			b.Reset()
			if err := r.WriteHTML(&b); err != nil {
				t.Fatal(err)
			}
			if n := strings.Count(b.String(), "Subscribers at 127.0.0.1:"); n != 3 {
				t.Errorf("the page tells of %d addresses", n)
			}
		}
	})
}

// What is lost, doubled, out of order and wrong is told for the address at which it was.
func TestFanoutFaultsByAddress(t *testing.T) {
	steady.Run(t, func(t testing.TB) {
		const at = 50 // this message, after which others come
		var held []byte
		p := fanoutOverNodes(t, 4, 1000, func(node, number int, m []byte) []byte {
			switch {
			case node == 1 && number == at:
				return nil
			case node == 2 && number == at:
				return append(m, m...)
			case node == 3 && number == at:
				held = m
				return nil
			case node == 3 && number == at+2:
				return append(m, held...)
			case node == 4 && number == at:
				m[40] ^= 1
			}
			return m
		})
		p.Duration = 400 * time.Millisecond
		r := carryOut(t, p)
		type faults struct{ lost, doubled, disordered, wrong, overdue uint64 }
		for i, want := range []faults{{lost: 4}, {doubled: 4}, {lost: 4, disordered: 4}, {wrong: 4}} {
			a := r.Addresses[i]
			if got := (faults{a.Lost, a.Doubled, a.OutOfOrder, a.Wrong, a.Overdue}); got != want {
				t.Errorf("address %d: %+v, want %+v", i+1, got, want)
			}
		}
		if r.Errors[LostMessage] != 8 || r.Errors[RepeatedMessage] != 8 || r.Errors[WrongBytes] != 4 || r.Errors.Total() != 20 {
			t.Errorf("errors %v, %+v", r.Errors, r.ErrorSamples)
		}
	})
}

// An address whose subscribers get nothing is named.
func TestFanoutNamesTheNodeThatIsCutOff(t *testing.T) {
	steady.Run(t, func(t testing.TB) {
		p := fanoutOverNodes(t, 2, 0, func(node, _ int, m []byte) []byte {
			if node == 2 {
				return nil
			}
			return m
		})
		p.Timeout = 300 * time.Millisecond
		_, err := Run(t.Context(), p, Options{})
		list := p.subscribe()
		if !errors.Is(err, ErrNotBroadcast) || !strings.Contains(err.Error(), "0 of 4 at "+list[0]+", 4 of 4 at "+list[1]) {
			t.Errorf("error %v", err)
		}
		p.Subscribe = list[0] + "," + unused(t)
		r, err := Run(t.Context(), p, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if r.Errors[Refused] != 4 || r.Addresses[0].Deliveries == 0 || r.Addresses[1].Subscribers != 0 {
			t.Errorf("errors %v, %+v", r.Errors, r.Addresses)
		}
	})
}

// With a rate, latency counts from the planned times: a server that stops for a while is late for every message that was due meanwhile.
func TestFanoutRateCountsFromPlannedTimes(t *testing.T) {
	steady.Run(t, func(t testing.TB) {
		const stop = 300 * time.Millisecond
		p := fanoutOverNodes(t, 2, 400, func(node, number int, m []byte) []byte {
			if node == 0 && number == 100 {
				time.Sleep(stop) // the server, which has one lock
			}
			return m
		})
		p.Duration = time.Second
		r := carryOut(t, p)
		wantErrors(t, r, nil)
		if d := r.Main(); d.Name != "delivery" || d.P90 < float64(stop.Microseconds())/4 || !strings.Contains(d.About, "planned") {
			t.Errorf("%s: %s: p90 %.0f us", d.Name, d.About, d.P90)
		}
		if tt := r.Totals; tt.Planned != 400*8 || tt.AskedPerS < 3000 || tt.AskedPerS > 3300 {
			t.Errorf("%+v", tt)
		}
		if lag := r.Find("pacing_lag"); lag == nil || lag.Count == 0 || lag.Count > 400 {
			t.Errorf("pacing lag %+v", lag)
		}
	})
}

// A rate that the server cannot keep: the first line says so, and the age of what never left is in the latencies.
func TestFanoutRateTooHigh(t *testing.T) {
	steady.Run(t, func(t testing.TB) {
		p := fanoutOverNodes(t, 1, 1000, func(_, _ int, m []byte) []byte {
			time.Sleep(2 * time.Millisecond) // for each of five connections
			return m
		})
		p.Duration, p.Timeout, p.Window = 500*time.Millisecond, 500*time.Millisecond, 640
		r := carryOut(t, p)
		if !r.Totals.FellBehind || r.Totals.Planned != 500*4 || r.Totals.Unanswered == 0 {
			t.Errorf("%+v, errors %v", r.Totals, r.Errors)
		}
		if n := r.Main().Count; n < 1900 {
			t.Errorf("%d of 2000 deliveries that were due are in the latencies", n)
		}
		var b strings.Builder
		if err := r.WriteTable(&b); err != nil || r.Errors.Total() == 0 && !strings.HasPrefix(b.String(), "BEHIND   the server did not keep up: deliveries of 4000/s were asked for") {
			t.Errorf("%v:\n%s", err, b.String())
		}
	})
}

// What is due is counted up to the end of the measured part, also by a worker that looks up a little late.
func TestFanoutPlannedUpToTheEnd(t *testing.T) {
	const ms = int64(time.Millisecond)
	for now, want := range map[int64]uint64{50: 51, 99: 100, 100: 100, 130: 100, 1000: 100} {
		w := still(t, Fanout)
		f := w.run.fan
		w.run.from.Store(1)
		w.run.end.Store(1 + 100*ms)
		f.open.Store(3)
		p := Plan{Arrival: Uniform, Rate: 1000}
		f.pace = newPace(&p)
		f.pace.begin(7)
		for range 3 {
			f.pace.lookUp(w, 1+now*ms)
		}
		if got := w.rec.now.planned; got != 3*want || f.pace.due != 7+want {
			t.Errorf("at %d ms %d deliveries are planned, want %d", now, got, 3*want)
		}
		f.published.Store(7)
		if !f.pace.waits(w, 1+now*ms, 7) && want > 0 || f.pace.waits(w, 1+now*ms, 7+want) {
			t.Errorf("at %d ms: waits is wrong", now)
		}
		f.pace.giveUp(w, f, 1+200*ms)
		if got := w.rec.now; got.cut != 3*want || times(got, deliveryTime) != 3*want {
			t.Errorf("at %d ms: %d cut, %d times", now, got.cut, times(got, deliveryTime))
		}
	}
}

// unused is an address that nobody listens on, on a host where no other program takes the port meanwhile.
func unused(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.93.84.75:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
