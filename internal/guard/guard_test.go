package guard

import (
	"math"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// start is when the guards of these tests are made. Their times count from it.
var start = time.Unix(1_000_000, 0)

func mustGuard(t testing.TB, r Rules) *Guard {
	t.Helper()
	g, err := New(r, start)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func prefixList(s ...string) (list []netip.Prefix) {
	for _, p := range s {
		list = append(list, netip.MustParsePrefix(p))
	}
	return list
}

// asked has the guard judge an address, releases it at once, and returns the verdict.
func asked(g *Guard, addr string, after time.Duration) Verdict {
	now := start.Add(after)
	s, verdict := g.Judge(netip.MustParseAddr(addr), now)
	s.Release(now)
	return verdict
}

func TestGuardPrefixes(t *testing.T) {
	for _, tt := range []struct {
		allow, deny []netip.Prefix
		accepted    string
		denied      string
	}{
		{nil, prefixList("10.0.0.0/8", "10.1.0.0/16", "192.0.2.7/32"), "11.0.0.1 192.0.2.8 ::1", "10.0.0.1 10.255.0.1 192.0.2.7"},
		{prefixList("10.0.0.0/8", "2001:db8::/32"), prefixList("10.9.0.0/16", "2001:db8:9::/48"), "10.8.0.1 2001:db8::1",
			"10.9.0.1 11.0.0.1 2001:db9::1 2001:db8:9::1 ::1"},
		{prefixList("0.0.0.0/0"), nil, "1.2.3.4", "::1"},
		{nil, prefixList("::ffff:0.0.0.0/96"), "::1", "1.2.3.4"},
		{nil, prefixList("::ffff:10.0.0.0/104", "::/0"), "11.0.0.1", "10.0.0.1 ::1 fe80::1%lo"},
		{nil, prefixList("10.1.2.3/8"), "11.0.0.1", "10.0.0.1 ::ffff:10.0.0.1"}, // bits behind the prefix say nothing
		// NAT64: an IPv4 client in an IPv6 address is in the prefixes of both.
		{nil, prefixList("203.0.113.0/24"), "64:ff9b::203.0.112.7 64:ff9b::1:203.0.113.7 64:ff9b:1::203.0.113.7 2002:cb00:7107::1 2001:0:1:2::34ff:8ef8",
			"203.0.113.7 64:ff9b::203.0.113.7"},
		{nil, prefixList("64:ff9b::203.0.113.0/120"), "203.0.113.7 64:ff9b::203.0.112.7", "64:ff9b::203.0.113.7"},
		{nil, prefixList("64:ff9b:1::/48"), "203.0.113.7 64:ff9b::203.0.113.7", "64:ff9b:1::1"},
		{prefixList("203.0.113.0/24"), nil, "203.0.113.7 64:ff9b::203.0.113.7", "64:ff9b::203.0.112.7 64:ff9b:1::203.0.113.7 2002:cb00:7107::1"},
		{prefixList("::/0"), nil, "64:ff9b::203.0.113.7 2002:cb00:7107::1", "203.0.113.7"},
		{prefixList("203.0.113.0/24"), prefixList("64:ff9b::/96"), "203.0.113.7", "64:ff9b::203.0.113.7"},
		{prefixList("64:ff9b::/96"), prefixList("203.0.113.0/24"), "64:ff9b::203.0.112.7", "64:ff9b::203.0.113.7"},
	} {
		g := mustGuard(t, Rules{Allow: tt.allow, Deny: tt.deny})
		for _, a := range strings.Fields(tt.accepted) {
			if is := asked(g, a, 1); is != Accepted {
				t.Errorf("allow %v, deny %v: %s is refused", tt.allow, tt.deny, a)
			}
		}
		for _, a := range strings.Fields(tt.denied) {
			if is := asked(g, a, 1); is != Denied {
				t.Errorf("allow %v, deny %v: %s is judged %q", tt.allow, tt.deny, a, is)
			}
		}
	}
}

func TestGuardSessionsPerAddress(t *testing.T) {
	g := mustGuard(t, Rules{MaxPerAddress: 2})
	enter := func(addr string) (*Source, Verdict) { return g.Judge(netip.MustParseAddr(addr), start) }
	for _, same := range [][4]string{
		{"10.0.0.1", "10.0.0.1", "::ffff:10.0.0.1", "10.0.0.2"},
		{"2001:db8:0:1::1", "2001:db8:0:1:ffff::1", "2001:db8:0:1::2", "2001:db8:0:2::1"}, // a /64 counts as one
		{"fe80::1", "fe80::1%eth0", "fe80::1%eth1", "fe80::2"},                            // of a link all have the same
		// What stands for an IPv4 address counts as that one.
		{"203.0.113.7", "64:ff9b::203.0.113.7", "64:ff9b::cb00:7107", "64:ff9b::203.0.113.8"},
		{"203.0.113.7", "2002:cb00:7107::1", "2002:cb00:7107:9:8::1", "2002:cb00:7108::1"},                     // 6to4
		{"203.0.113.7", "2001:0:1:2:0:3:34ff:8ef8", "2001:0:9:8:8000:4:34ff:8ef8", "2001:0:1:2:0:3:34ff:8ef7"}, // Teredo
		{"64:ff9b:1::203.0.113.7", "64:ff9b:1::cb00:7107", "64:ff9b:1::cb00:7107", "64:ff9b:1::203.0.113.8"},   // where the IPv4 address is nobody knows
		{"64:ff9b:0:0:0:1::1", "64:ff9b:0:0:0:1::2", "64:ff9b::1:0:0", "64:ff9b::0.0.0.1"},                     // next to the /96
		{"64:ff9b:2:0::1", "64:ff9b:2:0::2", "64:ff9b:2:0::3", "64:ff9b:2:1::1"},                               // next to the /48
		{"2001:1::1", "2001:1::2", "2001:1::3", "2001:1:0:1::1"},                                               // next to Teredo
		{"2003:cb00:7107:0::1", "2003:cb00:7107:0::2", "2003:cb00:7107:0::3", "2003:cb00:7107:1::1"},           // next to 6to4
	} {
		first, is1 := enter(same[0])
		second, is2 := enter(same[1])
		_, is3 := enter(same[2])
		other, is4 := enter(same[3])
		if is1 != Accepted || is2 != Accepted || is3 != TooManySessions || is4 != Accepted {
			t.Errorf("%v are judged %q, %q, %q, %q", same, is1, is2, is3, is4)
		}
		first.Release(start)
		third, is := enter(same[2])
		if is != Accepted {
			t.Errorf("%s is judged %q after another has left", same[2], is)
		}
		for _, s := range []*Source{second, other, third} {
			s.Release(start)
		}
	}
	if g.sources.known != 0 || g.sources.idles != 0 || g.sources.idle.next != &g.sources.idle {
		t.Errorf("%d addresses are remembered without a reason", g.sources.known)
	}
}

func TestGuardRate(t *testing.T) {
	g := mustGuard(t, Rules{AcceptRate: 2, AcceptBurst: 3})
	for _, tt := range []struct {
		at   time.Duration
		a    string
		want Verdict
	}{
		{0, "10.0.0.1", Accepted}, {0, "10.0.0.1", Accepted}, {0, "10.0.0.1", Accepted}, {0, "10.0.0.1", TooFast},
		{0, "10.0.0.2", Accepted},
		{499 * time.Millisecond, "10.0.0.1", TooFast}, // and pays nothing
		{500 * time.Millisecond, "10.0.0.1", Accepted}, {500 * time.Millisecond, "10.0.0.1", TooFast},
		{time.Hour, "10.0.0.1", Accepted}, {time.Hour, "10.0.0.1", Accepted}, {time.Hour, "10.0.0.1", Accepted}, {time.Hour, "10.0.0.1", TooFast},
	} {
		if is := asked(g, tt.a, time.Second+tt.at); is != tt.want {
			t.Errorf("%s after %v: %q, want %q", tt.a, tt.at, is, tt.want)
		}
	}
	// A source whose bucket is full again is forgotten when others connect.
	for i := range 4 {
		asked(g, "10.0.1.1", 10*time.Hour+time.Duration(i))
	}
	if g.sources.known != 1 {
		t.Errorf("%d addresses are remembered, want the last one only", g.sources.known)
	}
	if g := mustGuard(t, Rules{AcceptRate: 2.5}); g.rate.burst != 3*g.rate.interval {
		t.Errorf("the default burst of 2.5 a second is %v, want three times %v", g.rate.burst, g.rate.interval)
	}
}

// A connection of a new address forgets two old ones whose bucket is full again. A session that ends leaves nothing behind if its bucket is full.
func TestGuardForgets(t *testing.T) {
	g := mustGuard(t, Rules{AcceptRate: 1, AcceptBurst: 1})
	for i := range 100 {
		asked(g, netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}).String(), time.Second)
	}
	if g.sources.known != 100 {
		t.Fatalf("%d addresses are remembered, want 100", g.sources.known)
	}
	for i := range 50 {
		asked(g, netip.AddrFrom4([4]byte{10, 0, 1, byte(i)}).String(), time.Hour)
	}
	if g.sources.known != 50 {
		t.Errorf("%d addresses are remembered, want the last 50", g.sources.known)
	}
	g = mustGuard(t, Rules{AcceptRate: 1, AcceptBurst: 1})
	now := start.Add(time.Hour)
	first, is := g.Judge(netip.MustParseAddr("10.0.0.1"), now.Add(-time.Minute))
	other, is2 := g.Judge(netip.MustParseAddr("10.0.0.2"), now.Add(time.Minute)) // full again in a minute and a second
	if is != Accepted || is2 != Accepted || g.sources.known != 2 {
		t.Fatalf("judged %q and %q, %d addresses are remembered", is, is2, g.sources.known)
	}
	first.Release(now)
	if g.sources.known != 1 {
		t.Errorf("%d addresses are remembered, want the one whose session goes on", g.sources.known)
	}
	other.Release(now)
	if g.sources.known != 1 || g.sources.idles != 1 {
		t.Errorf("%d addresses are remembered, %d without sessions, want the one whose bucket is not full", g.sources.known, g.sources.idles)
	}
}

// Memory is bounded however many addresses connect. An address with a session, or one that connects all the time, is not forgotten.
func TestGuardRemembersSoMany(t *testing.T) {
	g := mustGuard(t, Rules{MaxPerAddress: 1, AcceptRate: 1e-6, AcceptBurst: 1})
	served, is := g.Judge(netip.MustParseAddr("192.0.2.1"), start)
	if is != Accepted {
		t.Fatal("the first is refused")
	}
	heap := func() int64 {
		for range 3 { // what other tests have left in pools goes with the second
			runtime.GC()
		}
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	after := time.Second
	connect := func(from, to uint32) {
		for i := from; i < to; i++ {
			after++
			a := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
			s, is := g.Judge(a, start.Add(after))
			if is != Accepted {
				t.Fatalf("%v, a new address, is judged %q", a, is)
			}
			s.Release(start.Add(after))
			if i%10_000 == 0 {
				if is := asked(g, "192.0.2.9", after); i > 0 && is != TooFast {
					t.Fatalf("an address that connects all the time was forgotten: %q after %d others", is, i)
				}
			}
		}
	}
	before := heap()
	connect(0, 500_000)
	some := heap()
	connect(500_000, 1_000_000)
	all := heap()
	if g.sources.known != maxIdle+1 || g.sources.idles != maxIdle {
		t.Errorf("%d addresses are remembered, %d of them without sessions, want %d and one less", g.sources.known, g.sources.idles,
			maxIdle+1)
	}
	t.Logf("%d bytes per address; 500,000 more addresses: %+d bytes", (some-before)/maxIdle, all-some)
	if size := (all - before) / maxIdle; size > 80 {
		t.Errorf("%d bytes per address, want 80 at most", size)
	}
	if grown := all - some; grown > 64<<10 {
		t.Errorf("half a million more addresses took %d bytes more", grown)
	}
	// The sources whose last connection is longest ago are forgotten, and no others.
	for _, tt := range []struct {
		i    uint32
		want Verdict
	}{{999_999, TooFast}, {999_998, TooFast}, {1_000_000 - maxIdle + 8, TooFast}, {1_000_000 - maxIdle - 1, Accepted}, {0, Accepted}} {
		if is := asked(g, netip.AddrFrom4([4]byte{10, byte(tt.i >> 16), byte(tt.i >> 8), byte(tt.i)}).String(), after); is != tt.want {
			t.Errorf("number %d of a million is judged %q, want %q", tt.i, is, tt.want)
		}
	}
	if _, is := g.Judge(netip.MustParseAddr("192.0.2.1"), start.Add(after)); is != TooManySessions {
		t.Errorf("an address with a session was forgotten: judged %q", is)
	}
	served.Release(start.Add(after))
	runtime.KeepAlive(g)
}

func TestGuardFromManyGoroutines(t *testing.T) {
	g := mustGuard(t, Rules{MaxPerAddress: 3, AcceptRate: 1e6})
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for i := range 2000 {
				s, _ := g.Judge(netip.AddrFrom4([4]byte{10, 0, 0, byte(i % 7)}), time.Now())
				s.Release(time.Now())
			}
		})
	}
	all.Wait()
	if g.sources.idles != g.sources.known {
		t.Errorf("%d without sessions, of %d", g.sources.idles, g.sources.known)
	}
}

func TestRules(t *testing.T) {
	for want, r := range map[string]Rules{
		"Rules.Allow: invalid": {Allow: make([]netip.Prefix, 1)},
		"Rules.Deny: invalid":  {Deny: make([]netip.Prefix, 1)},
		"0.0.0.0/95 is not a ": {Deny: prefixList("::ffff:0:0/95")},
		"Rules.MaxPerAddress":  {MaxPerAddress: -1},
		"want at least 1, or":  {MaxPerAddress: math.MaxInt32 + 1},
		"Rules.AcceptRate is":  {AcceptRate: -1},
		"want 1e-06 to 1e+06":  {AcceptRate: 1.1e6},
		"AcceptRate is 9e-07":  {AcceptRate: 0.9e-6},
		"AcceptRate is NaN":    {AcceptRate: math.NaN()},
		"without Rules.Accept": {AcceptBurst: 1},
		"Rules.AcceptBurst i":  {AcceptRate: 1, AcceptBurst: -1},
		"is 1000001, want 1 t": {AcceptRate: 1e6, AcceptBurst: 1e6 + 1},
		"70 years":             {AcceptRate: 1e-6, AcceptBurst: 1e6},
	} {
		if _, err := New(r, start); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want an error with %q", r, err, want)
		}
	}
	for _, r := range []Rules{
		{}, {AcceptRate: 1e6, AcceptBurst: 1e6}, {AcceptRate: 1e-6, AcceptBurst: 1}, {MaxPerAddress: math.MaxInt32},
		{Deny: prefixList("::ffff:0:0/96")},
	} {
		if _, err := New(r, start); err != nil {
			t.Errorf("%+v, just within its bounds: %v", r, err)
		}
	}
}

func BenchmarkGuard(b *testing.B) {
	g := mustGuard(b, Rules{Deny: prefixList("192.0.2.0/24", "198.51.100.0/24", "10.255.0.0/16"), MaxPerAddress: 10, AcceptRate: 1})
	var i uint32
	for b.Loop() {
		i++
		now := start.Add(time.Duration(i))
		s, _ := g.Judge(netip.AddrFrom4([4]byte{10, byte(i >> 14), byte(i >> 6), byte(i)}), now)
		s.Release(now)
	}
}
