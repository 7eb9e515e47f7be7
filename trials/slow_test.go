//go:build linux

package trials

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/servercore-go/servercore/engine"
)

// verbPush has a number of 8 bytes: send that many bytes per second until Send fails.
const verbPush = 'p'

const (
	hardLimit = 1 << 20
	softLimit = 256 << 10
)

func init() {
	plans["T11"] = func() plan {
		return plan{options: engine.Options{SendLimit: hardLimit, SlowPeer: engine.EndSession, SendBuffer: 128 << 10,
			WriteTimeout: -1}, verb: push, thrift: true} // it is the queue that is to end them
	}
	plans["T11 soft"] = func() plan {
		return plan{options: engine.Options{SendLimit: 4 * hardLimit, SoftLimit: softLimit, SoftLimitFor: softFor(), SendBuffer: 128 << 10,
			WriteTimeout: -1}, verb: push}
	}
	plans["T12"] = plans["T11"]
}

func softFor() time.Duration { return lasting(5*time.Second, time.Second) }

// pushed is a session that push sends to.
type pushed struct {
	*member
	began time.Time
	rate  int // bytes a second
	sent  int
}

var pushing struct {
	once sync.Once
	new  chan pushed
}

// push makes one goroutine send to all sessions that have asked, out of one buffer: the trial judges the memory of the sessions.
func push(m *member, payload []byte) {
	pushing.once.Do(func() {
		pushing.new = make(chan pushed, 1000)
		go pushAll()
	})
	pushing.new <- pushed{m, time.Now(), number(payload), 0}
}

func pushAll() {
	data := make([]byte, giveRecord-headerSize)
	data[0] = verbNothing
	record := make([]byte, 0, headerSize+len(data))
	var all []pushed
	for {
		if len(all) == 0 {
			all = append(all, <-pushing.new)
		}
		for n := len(pushing.new); n > 0; n-- {
			all = append(all, <-pushing.new)
		}
		kept := all[:0]
		for _, p := range all {
			due := int(time.Since(p.began).Seconds() * float64(p.rate))
			var err error
			for err == nil && p.sent < due {
				err = p.sendIn(record, data)
				p.sent += cap(record)
				p.numbering.Lock()
				if p.life.Over == 0 && p.Pending() > softLimit {
					p.life.Over = monotonic()
				}
				p.numbering.Unlock()
			}
			if err == nil {
				kept = append(kept, p)
			}
		}
		clear(all[len(kept):])
		all = kept
		time.Sleep(10 * time.Millisecond)
	}
}

// pushRate is the rate, in bytes per second, at which peers that do not read are sent to. At full scale SendLimit is reached after 16 s.
func pushRate() int {
	if full() {
		return 64 << 10
	}
	return 640 << 10
}

// T11: a peer that never reads costs at most SendLimit, or SoftLimit for the allowed time, and then its session is reset.
func TestT11ZeroWindowForEver(t *testing.T) {
	rate := pushRate()
	o := begin(t, "T11", how{})
	c := o.connectSmall(4 << 10)
	must(t, c.echo(64))
	base := o.forgetPeak()
	must(t, c.ask(request(verbPush, rate)))
	l := o.ended(c, patience+time.Minute)
	o.check("aborted when pending in [H, 2H)", because(l, "send limit") && l.Pending >= hardLimit && l.Pending < 2*hardLimit,
		"%s queued at the Send that was refused, H is %s, %v", size(l.Pending), size(hardLimit), l.Causes)
	grown, ok := o.grownTo(base, 2*hardLimit+512<<10)
	o.check("RSS growth <= 2H + 512 KiB", ok, "%s", size(grown))
	o.finish()

	o = begin(t, "T11 soft", how{})
	c = o.connectSmall(4 << 10)
	must(t, c.ask(request(verbPush, rate)))
	l = o.ended(c, patience+time.Minute)
	took := time.Duration(l.Ended - l.Over)
	o.check("by the soft rule at 5 s (+2 s)", because(l, "send limit") && l.Over > 0 && took >= softFor()-100*time.Millisecond && took <= softFor()+within(2*time.Second),
		"%v above S, allowed are %v; %v", took.Round(time.Millisecond), softFor(), l.Causes)
	o.finish()
}

// T12: a thousand peers that never read cost no more than that each, and the kernel keeps nothing of them.
func TestT12ManyZeroWindows(t *testing.T) {
	o := begin(t, "T12", how{})
	n := scaled(1000, 300) // the process' own share, which does not shrink with them, is small beside theirs
	base, kernel := o.forgetPeak(), tcpMemory(t)
	clients := make([]*client, n)
	each(n, 20, func(i int) {
		clients[i] = o.connectSmall(4 << 10)
		if err := clients[i].ask(request(verbPush, pushRate())); err != nil {
			t.Error(err)
		}
	})
	ok := o.liveAt(bystanders, patience+time.Minute)
	grown, small := o.grownTo(base, n*(hardLimit+8<<10)) // before a report
	o.report()
	wrong := 0
	for _, c := range clients {
		if l := o.lives[c.out.id]; !because(l, "send limit") || l.Pending < hardLimit || l.Pending >= 2*hardLimit {
			wrong++
		}
	}
	o.check("all aborted", ok && wrong == 0, "%d peers, %d not for their queue", n, wrong)
	o.check("peak RSS <= base + n * (H + 8 KiB)", small, "%s, allowed are %s", size(grown), size(n*(hardLimit+8<<10)))
	for _, c := range clients {
		_ = c.Close() // it was reset; what it has not read is held for it, not for the server
	}
	_, port := split(t, o.at.Records)
	left, more := 0, 0
	took, ok := eventually(within(5*time.Second), func() bool {
		left, more = socketsOf(t, port), tcpMemory(t)-kernel
		return left <= bystanders+1 && more <= 2<<20 // the listener; each processor keeps a MiB in reserve
	})
	o.check("no socket is left, TCP's memory is back <= 5 s", ok, "%d besides the bystanders after %v; TCP holds %+.1f MiB", left-bystanders-1, round(took), float64(more)/(1<<20))
	o.finish()
}

// socketsOf counts the sockets of a local port, except those in TIME_WAIT.
func socketsOf(t testing.TB, port string) (n int) {
	t.Helper()
	var number int
	_, err := fmt.Sscan(port, &number)
	must(t, err)
	f, err := os.Open("/proc/net/tcp")
	must(t, err)
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		fields := strings.Fields(lines.Text()) // sl local remote state
		if strings.HasSuffix(fields[1], fmt.Sprintf(":%04X", number)) && fields[3] != "06" {
			n++
		}
	}
	return n
}

// readerMain is the main function of a client process that can be stopped. Its command is read ADDRESS BYTES SECONDS: request that many
// bytes and read them in that time.
func readerMain() int {
	for commands := bufio.NewScanner(os.Stdin); commands.Scan(); {
		var address string
		var total int
		var took float64
		if _, err := fmt.Sscanf(commands.Text(), "read %s %d %f", &address, &total, &took); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 2
		}
		answer(readFor(address, total, time.Duration(took*float64(time.Second))))
	}
	return 0
}

// readAt is what a reader has read.
type readAt struct {
	ID    uint64
	Bytes int64
	Err   string
}

func readFor(address string, total int, took time.Duration) (r readAt) {
	c, err := connect(dialer(0), address)
	if err != nil {
		return readAt{Err: err.Error()}
	}
	defer c.Close()
	c.out.id += uint64(os.Getpid()) << 20
	answer("reading")
	if err = c.ask(request(verbGive, total)); err == nil {
		began := time.Now()
		err = c.take(make([]byte, 32<<10), nil, func() bool {
			time.Sleep(time.Until(began.Add(time.Duration(float64(took) * float64(c.in.bytes) / float64(total)))))
			return c.in.bytes >= int64(total)
		})
	}
	if err == nil {
		_ = c.CloseWrite()
		err = c.takeAll()
	}
	return readAt{c.out.id, c.in.bytes, fmt.Sprint(err)}
}

// T13: a reader that stops every other second keeps its session and misses nothing.
func TestT13PausingReader(t *testing.T) {
	o := begin(t, "T13", how{})
	rounds := scaled(30, 2)
	d := time.Duration(rounds) * 2 * time.Second
	total := int(10e6 * d.Seconds())
	p := start(t, "reader")
	if _, err := fmt.Fprintf(p.stdin, "read %s %d %f\n", o.at.Records, total, d.Seconds()); err != nil {
		t.Fatal(err)
	}
	heard[string](p, "connect")
	for range rounds {
		p.signal(syscall.SIGSTOP)
		time.Sleep(time.Second)
		p.signal(syscall.SIGCONT)
		time.Sleep(time.Second)
	}
	r := heard[readAt](p, "read")
	o.settledAt(0, patience)
	l := o.lives[r.ID]
	o.check("never disconnected, exact bytes", r.Err == "<nil>" && r.Bytes == int64(total) && l.Sent == int64(total) && because(l, "peer closed"),
		"%d of %d bytes read in %d pauses, OnSend %d, %s, %v", r.Bytes, total, rounds, l.Sent, r.Err, l.Causes)
	o.finish()
}
