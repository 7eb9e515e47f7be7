package engine

import (
	"errors"
	"math"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/servercore-go/servercore/session"
)

func mustGuard(t testing.TB, r Rules) *guard {
	t.Helper()
	g, err := newGuard(r)
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

// asked has the guard judge an address, for a moment only, and returns what it says.
func asked(g *guard, a string, now time.Duration) verdict {
	v, is := g.judge(netip.MustParseAddr(a), now)
	v.leave()
	return is
}

func TestGuardPrefixes(t *testing.T) {
	for _, tt := range []struct {
		allow, deny []netip.Prefix
		welcome     string
		denied      string
	}{
		{nil, prefixList("10.0.0.0/8", "10.1.0.0/16", "192.0.2.7/32"), "11.0.0.1 192.0.2.8 ::1", "10.0.0.1 10.255.0.1 192.0.2.7"},
		{prefixList("10.0.0.0/8", "2001:db8::/32"), prefixList("10.9.0.0/16", "2001:db8:9::/48"), "10.8.0.1 2001:db8::1",
			"10.9.0.1 11.0.0.1 2001:db9::1 2001:db8:9::1 ::1"},
		{prefixList("0.0.0.0/0"), nil, "1.2.3.4", "::1"},
		{nil, prefixList("::ffff:0.0.0.0/96"), "::1", "1.2.3.4"},
		{nil, prefixList("::ffff:10.0.0.0/104", "::/0"), "11.0.0.1", "10.0.0.1 ::1 fe80::1%lo"},
		{nil, prefixList("10.1.2.3/8"), "11.0.0.1", "10.0.0.1"}, // bits behind the prefix say nothing
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
		for _, a := range strings.Fields(tt.welcome) {
			if is := asked(g, a, 1); is != welcome {
				t.Errorf("allow %v, deny %v: %s is refused", tt.allow, tt.deny, a)
			}
		}
		for _, a := range strings.Fields(tt.denied) {
			if is := asked(g, a, 1); is != denied {
				t.Errorf("allow %v, deny %v: %s is judged %d", tt.allow, tt.deny, a, is)
			}
		}
	}
}

func TestGuardSessionsPerAddress(t *testing.T) {
	g := mustGuard(t, Rules{MaxPerAddress: 2})
	enter := func(a string) (*visitor, verdict) { return g.judge(netip.MustParseAddr(a), 1) }
	for _, same := range [][4]string{
		{"10.0.0.1", "10.0.0.1", "10.0.0.1", "10.0.0.2"},
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
		if is1 != welcome || is2 != welcome || is3 != tooMany || is4 != welcome {
			t.Errorf("%v are judged %d, %d, %d, %d", same, is1, is2, is3, is4)
		}
		first.leave()
		third, is := enter(same[2])
		if is != welcome {
			t.Errorf("%s is judged %d after another has left", same[2], is)
		}
		for _, v := range []*visitor{second, other, third} {
			v.leave()
		}
	}
	if g.known != 0 || g.silents != 0 || g.silent.next != &g.silent {
		t.Errorf("%d addresses are remembered without a reason", g.known)
	}
}

func TestGuardRate(t *testing.T) {
	g := mustGuard(t, Rules{AcceptRate: 2, AcceptBurst: 3})
	for _, tt := range []struct {
		at   time.Duration
		a    string
		want verdict
	}{
		{0, "10.0.0.1", welcome}, {0, "10.0.0.1", welcome}, {0, "10.0.0.1", welcome}, {0, "10.0.0.1", tooFast},
		{0, "10.0.0.2", welcome},
		{499 * time.Millisecond, "10.0.0.1", tooFast}, // and pays nothing
		{500 * time.Millisecond, "10.0.0.1", welcome}, {500 * time.Millisecond, "10.0.0.1", tooFast},
		{time.Hour, "10.0.0.1", welcome}, {time.Hour, "10.0.0.1", welcome}, {time.Hour, "10.0.0.1", welcome}, {time.Hour, "10.0.0.1", tooFast},
	} {
		if is := asked(g, tt.a, time.Second+tt.at); is != tt.want {
			t.Errorf("%s after %v: %d, want %d", tt.a, tt.at, is, tt.want)
		}
	}
	// Whose bucket is full again is forgotten when others come.
	for i := range 4 {
		asked(g, "10.0.1.1", 10*time.Hour+time.Duration(i))
	}
	if g.known != 1 {
		t.Errorf("%d addresses are remembered, want the last one only", g.known)
	}
	if g := mustGuard(t, Rules{AcceptRate: 2.5}); g.burst != 3*g.interval {
		t.Errorf("the default burst of 2.5 a second is %v, want three times %v", g.burst, g.interval)
	}
}

// A visit of a new address forgets two old ones whose bucket is full again, and a session that ends leaves nothing behind if its bucket is.
func TestGuardForgets(t *testing.T) {
	g := mustGuard(t, Rules{AcceptRate: 1, AcceptBurst: 1})
	for i := range 100 {
		asked(g, netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}).String(), time.Second)
	}
	if g.known != 100 {
		t.Fatalf("%d addresses are remembered, want 100", g.known)
	}
	for i := range 50 {
		asked(g, netip.AddrFrom4([4]byte{10, 0, 1, byte(i)}).String(), time.Hour)
	}
	if g.known != 50 {
		t.Errorf("%d addresses are remembered, want the last 50", g.known)
	}
	g = mustGuard(t, Rules{AcceptRate: 1, AcceptBurst: 1})
	g.born = time.Now().Add(-time.Hour)
	v, is := g.judge(netip.MustParseAddr("10.0.0.1"), g.now()-time.Minute)
	other, is2 := g.judge(netip.MustParseAddr("10.0.0.2"), g.now()+time.Minute) // full again in a minute and a second
	if is != welcome || is2 != welcome || g.known != 2 {
		t.Fatalf("judged %d and %d, %d addresses are remembered", is, is2, g.known)
	}
	v.leave()
	if g.known != 1 {
		t.Errorf("%d addresses are remembered, want the one whose session goes on", g.known)
	}
	other.leave()
	if g.known != 1 || g.silents != 1 {
		t.Errorf("%d addresses are remembered, %d without sessions, want the one whose bucket is not full", g.known, g.silents)
	}
}

// Bounded memory however many addresses knock, and nobody who is served, nor who knocks all the time, is forgotten.
func TestGuardRemembersSoMany(t *testing.T) {
	g := mustGuard(t, Rules{MaxPerAddress: 1, AcceptRate: 1e-6, AcceptBurst: 1})
	served, is := g.judge(netip.MustParseAddr("192.0.2.1"), 1)
	if is != welcome {
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
	now := time.Second
	knock := func(from, to uint32) {
		for i := from; i < to; i++ {
			now++
			a := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
			v, is := g.judge(a, now)
			if is != welcome {
				t.Fatalf("%v, a stranger, is judged %d", a, is)
			}
			v.leave()
			if i%10_000 == 0 {
				if is := asked(g, "192.0.2.9", now); i > 0 && is != tooFast {
					t.Fatalf("who knocks all the time was forgotten: %d after %d others", is, i)
				}
			}
		}
	}
	before := heap()
	knock(0, 500_000)
	some := heap()
	knock(500_000, 1_000_000)
	all := heap()
	if g.known != maxStrangers+1 || g.silents != maxStrangers {
		t.Errorf("%d addresses are remembered, %d of them without sessions, want %d and one less", g.known, g.silents,
			maxStrangers+1)
	}
	t.Logf("%d bytes per address; 500,000 more addresses: %+d bytes", (some-before)/maxStrangers, all-some)
	if size := (all - before) / maxStrangers; size > 80 {
		t.Errorf("%d bytes per address, want 80 at most", size)
	}
	if grown := all - some; grown > 64<<10 {
		t.Errorf("half a million more addresses took %d bytes more", grown)
	}
	// Those whose last connection is longest ago are forgotten, and nobody else.
	for _, tt := range []struct {
		i    uint32
		want verdict
	}{{999_999, tooFast}, {999_998, tooFast}, {1_000_000 - maxStrangers + 8, tooFast}, {1_000_000 - maxStrangers - 1, welcome}, {0, welcome}} {
		if is := asked(g, netip.AddrFrom4([4]byte{10, byte(tt.i >> 16), byte(tt.i >> 8), byte(tt.i)}).String(), now); is != tt.want {
			t.Errorf("number %d of a million is judged %d, want %d", tt.i, is, tt.want)
		}
	}
	if _, is := g.judge(netip.MustParseAddr("192.0.2.1"), now); is != tooMany {
		t.Errorf("who is served was forgotten: judged %d", is)
	}
	served.leave()
	runtime.KeepAlive(g)
}

func TestGuardFromManyGoroutines(t *testing.T) {
	g := mustGuard(t, Rules{MaxPerAddress: 3, AcceptRate: 1e6})
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for i := range 2000 {
				v, _ := g.judge(netip.AddrFrom4([4]byte{10, 0, 0, byte(i % 7)}), g.now())
				v.leave()
			}
		})
	}
	all.Wait()
	if g.silents != g.known {
		t.Errorf("%d without sessions, of %d", g.silents, g.known)
	}
}

func TestT6BadAdmission(t *testing.T) {
	e, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	factory := func() session.Handler { return new(plain) }
	yes := func(netip.AddrPort) error { return nil }
	behind := ProxyProtocol(prefixList("::/0")...)
	for want, o := range map[string]Option{
		"Admit":                Admit(nil),
		"ProxyProtocol":        ProxyProtocol(),
		"ProxyProtocol: inv":   ProxyProtocol(netip.Prefix{}),
		"Rules.Allow":          Guard(Rules{Allow: make([]netip.Prefix, 1)}),
		"Rules.Deny":           Guard(Rules{Deny: make([]netip.Prefix, 1)}),
		"Rules.MaxPerAddress":  Guard(Rules{MaxPerAddress: -1}),
		"Rules.AcceptRate is":  Guard(Rules{AcceptRate: -1}),
		"Rules.AcceptRate":     Guard(Rules{AcceptBurst: 1}),
		"Rules.AcceptBurst i":  Guard(Rules{AcceptRate: 1, AcceptBurst: -1}),
		"70 years":             Guard(Rules{AcceptRate: 1e-6, AcceptBurst: 1e6}),
		"Rules.Farewell":       Guard(Rules{Farewell: make([]byte, 4097)}),
		"want at least 1, or":  Guard(Rules{MaxPerAddress: math.MaxInt32 + 1}),
		"want 1e-06 to 1e+06":  Guard(Rules{AcceptRate: 1.1e6}),
		"AcceptRate is 9e-07":  Guard(Rules{AcceptRate: 0.9e-6}),
		"AcceptRate is NaN":    Guard(Rules{AcceptRate: math.NaN()}),
		"is 1000001, want 1 t": Guard(Rules{AcceptRate: 1e6, AcceptBurst: 1e6 + 1}),
		"0.0.0.0/95 is not a ": Guard(Rules{Deny: prefixList("::ffff:0:0/95")}),
		"Guard is given twice": func(o *origin) error { return errors.Join(Guard(Rules{})(o), Guard(Rules{})(o)) },
		"Admit is given twice": func(o *origin) error { return errors.Join(Admit(yes)(o), Admit(yes)(o)) },
		"ProxyProtocol is giv": func(o *origin) error { return errors.Join(behind(o), behind(o)) },
	} {
		if _, err := e.Listen("tcp", "127.0.0.1:0", factory, o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want an error with %q", err, want)
		}
	}
	for _, r := range []Rules{
		{AcceptRate: 1e6, AcceptBurst: 1e6}, {AcceptRate: 1e-6, AcceptBurst: 1}, {MaxPerAddress: math.MaxInt32}, {Farewell: make([]byte, 4096)},
		{Deny: prefixList("::ffff:0:0/96")},
	} {
		if _, err := newGuard(r); err != nil {
			t.Errorf("just within its bounds: %v", err)
		}
	}
	for name, o := range map[string]Option{"Guard": Guard(Rules{}), "ProxyProtocol": behind, "Admit": Admit(yes)} {
		if _, err := e.Listen("unix", "@nobody", factory, o); (err == nil) != (name == "Admit") {
			t.Errorf("%s on a unix socket: %v", name, err)
		}
		if _, err := e.Dial(t.Context(), "tcp", "127.0.0.1:1", factory, o); err == nil || !strings.Contains(err.Error(), "options of Listen") {
			t.Errorf("Dial with %s: %v", name, err)
		}
	}
}

func BenchmarkGuard(b *testing.B) {
	g := mustGuard(b, Rules{Deny: prefixList("192.0.2.0/24", "198.51.100.0/24", "10.255.0.0/16"), MaxPerAddress: 10, AcceptRate: 1})
	var i uint32
	for b.Loop() {
		i++
		v, _ := g.judge(netip.AddrFrom4([4]byte{10, byte(i >> 14), byte(i >> 6), byte(i)}), time.Duration(i))
		v.leave()
	}
}
