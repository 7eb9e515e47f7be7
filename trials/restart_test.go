//go:build linux

package trials

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/servercore-go/servercore/engine"
	"github.com/servercore-go/servercore/internal/freeport"
)

var (
	graceT38 = func() time.Duration { return lasting(5*time.Second, time.Second) }
	idleT40  = func() time.Duration { return lasting(5*time.Second, time.Second) }
)

func init() {
	plans["T38"] = func() plan { return plan{options: engine.Options{DrainTimeout: graceT38()}} }
	plans["T39"] = func() plan { // where the one before was, if there was one
		_, address, _ := strings.Cut(os.Getenv(role), "T39 ")
		return plan{address: address}
	}
	plans["T40"] = func() plan { return plan{options: engine.Options{IdleTimeout: idleT40()}} }
}

// askWithoutPause sends a request per interval until a write fails, without waiting for the answers, and reads them to the end.
func askWithoutPause(c *client, interval time.Duration, load *sync.WaitGroup) {
	load.Go(func() {
		payload := make([]byte, 64)
		payload[0] = verbEcho
		for c.ask(payload) == nil {
			time.Sleep(interval)
		}
	})
	load.Go(func() {
		_ = c.takeAll()
		_ = c.Close()
	})
}

// T38: a server that gets SIGTERM answers what it has read, ends within the grace period, and exits with code 0.
func TestT38TerminatedUnderLoad(t *testing.T) {
	rounds, n, grace := scaled(50, 5), scaled(1000, 100), graceT38()
	var slowest time.Duration
	var answered, unanswered, codes int
	var failed []string
	var o *oracle
	for range rounds {
		o = begin(t, "T38", how{alone: true})
		var load sync.WaitGroup
		readers := make([]*client, 0, n)
		for i := range n {
			if i%3 == 0 { // one that never reads
				must(t, o.connectSmall(4<<10).ask(request(verbGive, 8<<20)))
				continue
			}
			c := o.connect()
			must(t, c.echo(64))
			readers = append(readers, c)
			askWithoutPause(c, time.Duration(n)*time.Second/10_000, &load)
		}
		time.Sleep(time.Duration(50+rand.IntN(200)) * time.Millisecond)
		began := time.Now()
		o.server.signal(syscall.SIGTERM)
		o.keep(heard[report](o.server, "SIGTERM"))
		if o.server.gone() != 0 {
			codes++
		}
		slowest = max(slowest, time.Since(began))
		load.Wait()
		for _, c := range readers {
			l := o.lives[c.out.id]
			answered += int(c.in.seq)
			if !c.orderly || !because(l, "shutdown") || c.in.seq != l.Records {
				unanswered++
				failed = append(failed, fmt.Sprintf("%x: orderly %v, %v, %v, answered %d of %d", c.out.id, c.orderly, c.err, l.Causes, c.in.seq, l.Records))
			}
		}
		for _, c := range o.clients {
			_ = c.Close()
		}
		o.judgeStreams(calm{})
		if at := disaster.FindString(o.server.said()); at != "" {
			o.failed = append(o.failed, at)
		}
		failed = append(failed, o.failed...)
	}
	o.check("every request read is answered to readers", unanswered == 0, "%d answered in %d rounds, %d sessions of readers with less than that", answered,
		rounds, unanswered)
	o.check("exit <= grace + 1 s", slowest <= grace+within(time.Second), "the slowest %v, grace %v", round(slowest), grace)
	o.check("exit code 0", codes == 0, "%d of %d with another", codes, rounds)
	o.check("O1, O4", len(failed) == 0, "%d faults %v", len(failed), first(failed, 3))
}

func first[T any](list []T, n int) []T { return list[:min(n, len(list))] }

// T39: a server that was killed serves again at once when it is restarted, at the same address.
func TestT39KilledAndRestarted(t *testing.T) {
	rounds, n := scaled(20, 3), 50
	var knew, back []time.Duration
	addr, err := freeport.Addr("127.0.0.1") // nobody is given its port while the server is down
	if err != nil {
		t.Fatal(err)
	}
	o := begin(t, "T39 "+addr, how{alone: true})
	o.name = "T39"
	for range rounds {
		ends := make([]int64, n)
		var load, talking sync.WaitGroup
		for i := range n {
			c := o.connect()
			talking.Add(1)
			load.Go(func() {
				err := c.echo(64)
				talking.Done()
				for err == nil {
					err = c.echo(64)
				}
				ends[i] = monotonic()
				_ = c.Close()
			})
		}
		talking.Wait()
		at := monotonic()
		o.server.signal(syscall.SIGKILL)
		<-o.server.exited
		next := begin(t, "T39 "+o.at.Records, how{alone: true}) // O2 is in it
		back = append(back, time.Duration(monotonic()-at))
		load.Wait()
		for _, end := range ends {
			knew = append(knew, time.Duration(end-at))
		}
		if next.at.Records != o.at.Records {
			t.Fatalf("it is at %s now, and was at %s", next.at.Records, o.at.Records)
		}
		next.name, next.failed = "T39", append(o.failed, next.failed...)
		o = next
	}
	o.check("clients know <= 1 s", slices.Max(knew) <= within(time.Second), "the last of %d after %v", len(knew), round(slices.Max(knew)))
	o.check("bind succeeds, served again", true, "%d times, the slowest start took %v", rounds, round(slices.Max(back)))
	o.finish()
}

// T40: a server that was stopped (SIGSTOP) ends no session whose input it could not read, and a clock that is set moves no timeout.
func TestT40PausesAndClock(t *testing.T) {
	o := begin(t, "T40", how{})
	idle, stop := idleT40(), lasting(10*time.Second, 2*time.Second)
	n := scaled(1000, 100)
	clients := make([]*client, n)
	for i := range clients {
		clients[i] = o.connect()
	}
	each(n, n, func(i int) {
		if err := clients[i].echo(64); err != nil {
			t.Error(err)
		}
	})
	time.Sleep(idle / 2)
	o.server.signal(syscall.SIGSTOP)
	payload := make([]byte, 64)
	payload[0] = verbEcho
	for _, c := range clients[:n/2] {
		must(t, c.ask(payload))
	}
	time.Sleep(stop)
	o.server.signal(syscall.SIGCONT)
	continued := monotonic()
	lost := 0
	each(n/2, n/2, func(i int) {
		c := clients[i]
		_ = c.take(make([]byte, 4<<10), nil, func() bool { return c.in.seq == 2 })
	})
	for _, c := range clients[:n/2] {
		if c.in.seq != 2 {
			lost++
		}
	}
	eventually(within(2*time.Second), func() bool { // what the bystanders had to say meanwhile has been said
		time.Sleep(100 * time.Millisecond)
		return ask[calm](o.crowd, "look").Max < stop/10
	})
	o.check("no session with unread input is timed out", lost == 0, "%d of %d that had sent while the server was stopped for %v, IdleTimeout is %v", lost, n/2,
		stop, idle)
	var slowest time.Duration
	each(n, n, func(i int) {
		_ = clients[i].takeAll()
		_ = clients[i].Close()
	})
	o.settledAt(0, patience)
	wrong := 0
	for _, c := range clients[n/2:] {
		l := o.lives[c.out.id]
		slowest = max(slowest, time.Duration(l.Ended-continued))
		if !because(l, "idle") {
			wrong++
		}
	}
	o.check("the silent ones are, within 1 s", wrong == 0 && slowest <= within(time.Second), "the last after %v, %d for another reason", round(slowest), wrong)
	o.stepClock(idle)
	o.finish()
}

// stepClock judges that steps of the machine's clock do not move the idle timeout. It runs only at full scale.
func (o *oracle) stepClock(idle time.Duration) {
	o.t.Helper()
	if full() {
		var farthest time.Duration
		for _, step := range []time.Duration{time.Hour, -2 * time.Hour, time.Hour} {
			c := o.connect()
			must(o.t, c.echo(64))
			began := monotonic()
			time.Sleep(idle / 2)
			setClock(o.t, step)
			_ = c.takeAll()
			_ = c.Close()
			l := o.ended(c, patience)
			farthest = max(farthest, (time.Duration(l.Ended-began) - idle).Abs())
		}
		o.check("clock step moves no timer by > 1 s", farthest <= time.Second, "by %v", round(farthest))
	} else {
		note(line{"T40", "clock step moves no timer by > 1 s", "only at full scale, it is the machine's clock", notRun})
	}
}

// setClock moves the machine's clock by step. If the trial ends early, the clock is set back.
func setClock(t *testing.T, by time.Duration) {
	t.Helper()
	clockOff += by
	now := unix.NsecToTimespec(time.Now().Add(by).UnixNano())
	must(t, unix.ClockSettime(unix.CLOCK_REALTIME, &now))
	t.Cleanup(func() {
		if clockOff != 0 {
			now := unix.NsecToTimespec(time.Now().Add(-clockOff).UnixNano())
			clockOff = 0
			must(t, unix.ClockSettime(unix.CLOCK_REALTIME, &now))
		}
	})
}

var clockOff time.Duration
