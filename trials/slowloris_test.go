//go:build linux

package trials

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/servercore-go/servercore/engine"
)

var errTooSlow = errors.New("the first message took too long")

// The timeouts of T16: for the first byte, between bytes, and (set by the handler) for the first message.
func slownessAllowed() (first, quiet, whole time.Duration) {
	return lasting(5*time.Second, time.Second), lasting(30*time.Second, 3*time.Second), lasting(20*time.Second, 2*time.Second)
}

func init() {
	plans["T16"] = func() plan {
		first, quiet, whole := slownessAllowed()
		return plan{
			options: engine.Options{FirstByteTimeout: first, IdleTimeout: quiet},
			connected: func(m *member) {
				m.AfterFunc(whole, func() {
					if m.in.seq == 0 && m.in.bytes > 1 { // of one byte and nothing more it is IdleTimeout that is tried
						m.DisconnectWith(errTooSlow)
					}
				})
			},
		}
	}
}

// sendSlowly sends nothing (kind 0), one byte (kind 1), or a byte per pause (kind 2), until the server ends the connection.
func sendSlowly(c net.Conn, kind int, between time.Duration) {
	defer c.Close()
	_ = c.SetReadDeadline(time.Now().Add(time.Minute + patience))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = c.Read(make([]byte, 1))
	}()
	if kind == 0 {
		<-ended
		return
	}
	for pause := time.Duration(0); ; pause = between {
		select {
		case <-ended:
			return
		case <-time.After(pause):
			_, _ = c.Write([]byte{0})
		}
		if kind == 1 {
			<-ended
			return
		}
	}
}

// T16: a client that sends nothing, one byte, or never a whole message is closed in time, and keeps no other client out.
//
// Each of three kinds is a third: silent from the start, silent after a byte, and a byte now and then.
func TestT16Slowloris(t *testing.T) {
	o := begin(t, "T16", how{})
	first, quiet, whole := slownessAllowed()
	n := scaled(5000, 500)
	var crowd sync.WaitGroup
	var left atomic.Int64
	began := time.Now()
	left.Store(int64(n))
	for i := range n {
		time.Sleep(time.Until(began.Add(time.Duration(i) * time.Second / 400)))
		c, err := net.Dial("tcp", o.at.Records)
		must(t, err)
		crowd.Go(func() {
			defer left.Add(-1)
			sendSlowly(c, i%3, whole/8)
		})
	}
	var slowest time.Duration
	for left.Load() > 0 {
		at := time.Now()
		o.fresh()
		slowest = max(slowest, time.Since(at))
		time.Sleep(20 * time.Millisecond)
	}
	crowd.Wait()
	if _, ok := o.settledAt(0, patience); !ok {
		t.Fatal("sessions are left")
	}
	kinds := []struct {
		name, err string
		want      time.Duration
		count     int
		worst     time.Duration // the farthest from want
	}{{name: "silent", err: "idle", want: first}, {name: "silent after a byte", err: "idle", want: quiet}, {name: "a byte now and then", err: errTooSlow.Error(), want: whole}}
	total := 0
	for _, l := range o.silent {
		k := &kinds[min(l.Received, 2)]
		late := time.Duration(l.Ended-l.Connected) - k.want
		if !strings.Contains(l.Err, k.err) || late < -k.want/10 || late > within(k.want/10) {
			o.failed = append(o.failed, fmt.Sprintf("%s: ended after %v: %s", k.name, late+k.want, l.Err))
		}
		if k.count++; max(late, -late) > max(k.worst, -k.worst) {
			k.worst = late
		}
		total++
	}
	figure := ""
	for _, k := range kinds {
		figure += fmt.Sprintf("%d %s, farthest from %v by %v; ", k.count, k.name, k.want, round(k.worst))
	}
	o.check("each closed at its timeout +-10 %", total == n && len(o.failed) == 0, "%s%d of %d", figure, total, n)
	o.check("probe answers < 3 s throughout", slowest < within(3*time.Second), "the slowest %v", round(slowest))
	o.finish()
}
