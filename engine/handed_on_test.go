package engine

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/servercore-go/servercore/frame"
	"github.com/servercore-go/servercore/session"
)

// fillDistinct gives each field of a struct a value of its own, none of which is a default.
func fillDistinct(t *testing.T, v reflect.Value, skip ...string) {
	t.Helper()
	for i := range v.NumField() {
		name := v.Type().Field(i).Name
		field := v.Field(i)
		switch {
		case contains(skip, name):
		case field.Type() == reflect.TypeFor[time.Duration]():
			field.SetInt(int64(time.Duration(100+i) * time.Second))
		case field.CanInt():
			field.SetInt(int64(100_000 + i))
		case field.CanUint():
			field.SetUint(1)
		case field.Kind() == reflect.Float64:
			field.SetFloat(float64(2 + i))
		case field.Kind() == reflect.Bool:
			field.SetBool(true)
		case field.Kind() == reflect.Pointer:
			field.Set(reflect.New(field.Type().Elem()))
		default:
			t.Fatalf("what is a value for %s, of type %v?", name, field.Type())
		}
	}
}

func contains(list []string, s string) bool {
	for _, l := range list {
		if l == s {
			return true
		}
	}
	return false
}

// Each option of a session reaches the sessions, as the field of session.Limits that is meant, and each field of these is
// somebody's option. A field that is added is to be added here.
func TestOptionsAreHandedOn(t *testing.T) {
	of := map[string]string{ // field of Limits, field of Options
		"SendLimit": "SendLimit", "PauseAbove": "PauseAbove", "EndSlow": "SlowPeer", "SoftLimit": "SoftLimit", "SoftFor": "SoftLimitFor",
		"HighWater": "HighWater", "LowWater": "LowWater", "Idle": "IdleTimeout", "FirstByte": "FirstByteTimeout", "Write": "WriteTimeout",
		"Drain": "DrainTimeout", "Linger": "LingerTimeout", "HalfClose": "HalfCloseTimeout",
	}
	var o Options
	options := reflect.ValueOf(&o).Elem()
	fillDistinct(t, options, "Logger")
	limits := reflect.ValueOf(o.limits())
	for i := range limits.NumField() {
		name := limits.Type().Field(i).Name
		if name == "Budget" { // made by New: see TestSendBudgetIsHandedOn
			continue
		}
		want := options.FieldByName(of[name])
		if !want.IsValid() {
			t.Errorf("session.Limits.%s comes from no option", name)
			continue
		}
		got := limits.Field(i)
		if name == "EndSlow" {
			if !got.Bool() {
				t.Error("SlowPeer is EndSession, EndSlow is false")
			}
			continue
		}
		if got.Int() != want.Int() {
			t.Errorf("session.Limits.%s is %d, want Options.%s, %d", name, got.Int(), of[name], want.Int())
		}
	}
	if (Options{SlowPeer: RefuseSend}).limits().EndSlow {
		t.Error("SlowPeer is RefuseSend, EndSlow is true")
	}
}

// What is given is not replaced by a default.
func TestOptionsAreKept(t *testing.T) {
	var o Options
	v := reflect.ValueOf(&o).Elem()
	fillDistinct(t, v, "Logger")
	o.Loops, o.KeepAliveCount = 7, 9
	o.SendLimit, o.SendBudget = 10<<20, 20<<20
	o.LowWater, o.HighWater = o.HighWater, o.LowWater // in this order
	if o.LowWater > o.HighWater {
		o.LowWater, o.HighWater = o.HighWater, o.LowWater
	}
	got, err := o.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	got.Logger = nil
	if got != o {
		t.Errorf("with defaults %+v, want %+v", got, o)
	}
}

// SendBudget becomes a budget that each loop has, of that many bytes: what is above it is refused.
func TestSendBudgetIsHandedOn(t *testing.T) {
	const budget = 100_000
	_, c := connect(t, Options{SendBudget: budget, SendLimit: budget, PauseAbove: -1, HighWater: -1})
	e := loopOf(c).engine
	if e.budget == nil || loopOf(c).shared.Limits.Budget != e.budget {
		t.Fatal("the loop does not have the engine's budget")
	}
	_, other := connect(t, Options{})
	if e := loopOf(other).engine; e.budget != nil || loopOf(other).shared.Limits.Budget != nil {
		t.Error("there is a budget that nobody has asked for")
	}
}

// Each field of Rate reaches the session, and its burst is its own.
func TestRateIsHandedOn(t *testing.T) {
	r := Rate{BytesPerSecond: 11, BurstBytes: 12, PacketsPerSecond: 13, BurstPackets: 14, End: true}
	o, err := newOrigin("tcp", nil, []Option{RecvRate(r)})
	if err != nil {
		t.Fatal(err)
	}
	want := session.Rate{BytesPerSecond: 11, BurstBytes: 12, PacketsPerSecond: 13, BurstPackets: 14, End: true}
	if *o.rate != want {
		t.Errorf("%+v became %+v", r, *o.rate)
	}
	o, err = newOrigin("tcp", nil, []Option{RecvRate(Rate{BytesPerSecond: 11, PacketsPerSecond: 13})})
	if want := (session.Rate{BytesPerSecond: 11, BurstBytes: 11, PacketsPerSecond: 13, BurstPackets: 13}); err != nil || *o.rate != want {
		t.Errorf("default bursts: %+v, %v, want %+v", *o.rate, err, want)
	}
	if n := reflect.TypeFor[Rate]().NumField(); n != 5 {
		t.Errorf("Rate has %d fields, this test knows 5", n)
	}
}

// Each field of Policy is kept as it is given.
func TestPolicyIsHandedOn(t *testing.T) {
	var p Policy
	fillDistinct(t, reflect.ValueOf(&p).Elem(), "Context", "Jitter")
	p.Context, p.Jitter = t.Context(), 0.5
	p.BaseDelay, p.MaxDelay = time.Second, time.Minute
	o, err := newOrigin("tcp", nil, []Option{Reconnect(p)})
	if err != nil {
		t.Fatal(err)
	}
	if *o.policy != p {
		t.Errorf("%+v became %+v", p, *o.policy)
	}
}

// Every option leaves its mark on the listener it is given to, and only its own.
func TestEveryOptionIsHandedOn(t *testing.T) {
	admit := func(netip.AddrPort) error { return nil }
	o, err := newOrigin("tcp", nil, []Option{
		Framed(frame.Line{}), Offload(3), RecvRate(Rate{BytesPerSecond: 1}), Reconnect(Policy{}), Admit(admit), Guard(Rules{MaxPerAddress: 1}),
		ProxyProtocol(netip.MustParsePrefix("10.0.0.0/8")),
	})
	if err != nil {
		t.Fatal(err)
	}
	if o.framing == nil || o.rate == nil || o.policy == nil || o.workers == nil || reflect.ValueOf(o.workers).Elem().FieldByName("limit").Int() != 3 || o.entry == nil || o.entry.admit == nil ||
		o.entry.guard == nil || o.entry.trusted == nil {
		t.Errorf("something is missing: %+v, %+v", o, o.entry)
	}
	for name, option := range map[string]Option{"framing": Framed(frame.Line{}), "rate": RecvRate(Rate{BytesPerSecond: 1}),
		"policy": Reconnect(Policy{}), "workers": Offload(1), "entry": Admit(admit)} {
		o, err := newOrigin("tcp", nil, []Option{option})
		if err != nil {
			t.Fatal(err)
		}
		v := reflect.ValueOf(o)
		for _, field := range []string{"framing", "rate", "policy", "workers", "entry"} {
			if set := !v.FieldByName(field).IsNil(); set != (field == name) {
				t.Errorf("an option for %s: %s is set: %t", name, field, set)
			}
		}
	}
	if o, err := newOrigin("tcp", nil, nil); err != nil || o.framing != nil || o.rate != nil || o.policy != nil || o.workers != nil || o.entry != nil {
		t.Errorf("without options: %+v, %v", o, err)
	}
}

// Of two lists of who may come in none is dropped in silence.
func TestOptionsGivenTwice(t *testing.T) {
	admit := func(netip.AddrPort) error { return nil }
	prefix := netip.MustParsePrefix("10.0.0.0/8")
	for name, twice := range map[string][]Option{
		"Admit":         {Admit(admit), Admit(admit)},
		"Guard":         {Guard(Rules{MaxPerAddress: 1}), Guard(Rules{MaxPerAddress: 2})},
		"ProxyProtocol": {ProxyProtocol(prefix), ProxyProtocol(prefix)},
	} {
		if _, err := newOrigin("tcp", nil, twice); err == nil || !strings.Contains(err.Error(), name+" is given twice") {
			t.Errorf("%s twice: %v", name, err)
		}
		if _, err := newOrigin("tcp", nil, twice[:1]); err != nil {
			t.Errorf("%s once: %v", name, err)
		}
	}
}
