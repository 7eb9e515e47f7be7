package engine

import (
	"math"
	"net"
	"strings"
	"testing"
	"time"
)

func TestDefaults(t *testing.T) {
	o, err := Options{}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	if o.Loops < 1 || o.MaxSessions != 0 || o.SendLimit != 1<<20 || o.PauseAbove != 256<<10 || o.SlowPeer != RefuseSend ||
		o.IdleTimeout != 0 || o.FirstByteTimeout != 0 || o.WriteTimeout != 10*time.Second || o.DrainTimeout != 10*time.Second ||
		o.LingerTimeout != 2*time.Second || o.KeepAlive != 15*time.Second || o.KeepAliveInterval != 5*time.Second ||
		o.KeepAliveCount != 3 || o.UserTimeout != 30*time.Second || o.SendBuffer != 0 || o.NotSentLowWater != 256<<10 || o.Logger == nil {
		t.Errorf("defaults are %+v", o)
	}
	if o, err := (Options{SendLimit: 1000}).withDefaults(); err != nil || o.PauseAbove != 250 {
		t.Errorf("PauseAbove is %d with a SendLimit of 1000, want a quarter; %v", o.PauseAbove, err)
	}
}

// The smallest SendLimits have a PauseAbove too, but for 1.
func TestSmallestSendLimit(t *testing.T) {
	for limit := 1; limit < 6; limit++ {
		o, err := Options{SendLimit: limit}.withDefaults()
		if want := []int{-1, 1, 1, 1, 1}[limit-1]; err != nil || o.PauseAbove != want {
			t.Errorf("SendLimit %d: PauseAbove is %d, want %d; %v", limit, o.PauseAbove, want, err)
		}
	}
}

func FuzzOptions(f *testing.F) {
	f.Add(0, 0, 0, 0, int64(0), int64(0), 0)
	f.Add(4, -1, 1<<20, 1<<20, int64(time.Second), int64(-1), 9)
	f.Fuzz(func(t *testing.T, loops, maxSessions, sendLimit, pauseAbove int, keepAlive, timeout int64, count int) {
		o, err := Options{Loops: loops, MaxSessions: maxSessions, SendLimit: sendLimit, PauseAbove: pauseAbove,
			KeepAlive: time.Duration(keepAlive), KeepAliveInterval: time.Duration(keepAlive), WriteTimeout: time.Duration(timeout),
			KeepAliveCount: count}.withDefaults()
		if err != nil {
			if !strings.Contains(err.Error(), "Options.") {
				t.Errorf("%v names no field", err)
			}
			return
		}
		if o.Loops < 1 || o.SendLimit > 0 && o.PauseAbove >= o.SendLimit || o.KeepAliveCount < 1 {
			t.Errorf("accepted %+v", o)
		}
		if o.SendLimit > 0 && o.PauseAbove > 0 && o.SendLimit-o.PauseAbove < 1 {
			t.Errorf("no room between PauseAbove %d and SendLimit %d", o.PauseAbove, o.SendLimit)
		}
	})
}

// The default of UserTimeout gives up no peer before KeepAliveCount probes have had their time, although Linux' timers are late by up to an eighth.
func TestUserTimeoutCountsProbes(t *testing.T) {
	for _, k := range []struct {
		idle, interval time.Duration
		count          int
		want           time.Duration
	}{
		{15 * time.Second, 5 * time.Second, 3, 30 * time.Second},
		{15 * time.Second, 5 * time.Second, 1, 20 * time.Second},
		{2 * time.Second, time.Second, 2, 4 * time.Second}, // those of trial T7: the session ends when the last probe has had its time, not one later
		{10 * time.Second, 2 * time.Second, 3, 16 * time.Second},
		{30 * time.Second, 5 * time.Second, 3, 45714 * time.Millisecond},
		{5 * time.Minute, 5 * time.Second, 3, 354286 * time.Millisecond},
		{10 * time.Minute, 5 * time.Second, 3, 697143 * time.Millisecond},
		{10 * time.Minute, 75 * time.Second, 9, 1371429 * time.Millisecond},
	} {
		o, err := Options{KeepAlive: k.idle, KeepAliveInterval: k.interval, KeepAliveCount: k.count}.withDefaults()
		if err != nil {
			t.Fatal(err)
		}
		latest := (k.idle + time.Duration(k.count-1)*k.interval) * 71 / 63 // the look after all probes but one
		if o.UserTimeout.Round(time.Millisecond) != k.want || o.UserTimeout <= latest {
			t.Errorf("KeepAlive %v and %d x %v: UserTimeout is %v, want %v, above %v", k.idle, k.count, k.interval, o.UserTimeout, k.want, latest)
		}
	}
}

// However long a timeout, the deadline that follows from it can be reckoned, and the kernel takes it.
func TestTimeoutsWithoutEnd(t *testing.T) {
	const ever = math.MaxInt64
	client, c := connect(t, Options{IdleTimeout: ever, FirstByteTimeout: ever, WriteTimeout: ever, DrainTimeout: ever, LingerTimeout: ever,
		SoftLimit: 1000, SoftLimitFor: ever, UserTimeout: ever, SendBudget: ever})
	exchange(t, client, 1)
	o := &loopOf(c).engine.options
	for _, d := range []time.Duration{o.IdleTimeout, o.FirstByteTimeout, o.WriteTimeout, o.DrainTimeout, o.LingerTimeout, o.SoftLimitFor} {
		if now := c.Loop().Now(); d < 50*365*24*time.Hour || now+d < now {
			t.Errorf("a timeout became %v", d)
		}
	}
	ran := make(chan struct{})
	c.Context.Session().Disconnect() // has a deadline that never comes
	c.Context.Session().AfterFunc(10*time.Millisecond, func() { close(ran) })
	receive(t, ran)
}

func FuzzCheckAddress(f *testing.F) {
	for _, a := range []string{":7777", "127.0.0.1:0", "[::1]:80", "[fe80::1%eth0]:80", "localhost:http", "a:b:c", "", "/tmp/x", "@abstract"} {
		f.Add("tcp", a)
		f.Add("unix", a)
	}
	f.Fuzz(func(t *testing.T, network, address string) {
		if checkAddress(network, address) != nil {
			return
		}
		switch network {
		case "tcp", "tcp4", "tcp6":
			if _, _, err := net.SplitHostPort(address); err != nil {
				t.Errorf("accepted %q: %v", address, err)
			}
		case "unix":
			if address == "" || len(address) > 107 || strings.ContainsRune(address, 0) {
				t.Errorf("accepted the path %q", address)
			}
		default:
			t.Errorf("accepted the network %q", network)
		}
	})
}
