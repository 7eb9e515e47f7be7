package engine

import (
	"fmt"
	"reflect"
	"sync/atomic"
	"testing"

	"github.com/servercore-go/servercore/internal/histogram"
	"github.com/servercore-go/servercore/session"
)

// distinct sets each number in a struct, and in the structs in it, to a number of its own.
func distinct(v reflect.Value, next *uint64) {
	for i := range v.NumField() {
		switch field := v.Field(i); {
		case field.Kind() == reflect.Struct:
			distinct(field, next)
		case field.Kind() == reflect.Array:
			for j := range field.Len() {
				*next += 7
				field.Index(j).SetUint(*next)
			}
		case field.CanInt():
			*next += 7
			field.SetInt(int64(*next))
		case field.CanUint():
			*next += 7
			field.SetUint(*next)
		}
	}
}

// numbers returns the numbers in a struct by name.
func numbers(v reflect.Value, prefix string, into map[string]uint64) map[string]uint64 {
	for i := range v.NumField() {
		name := prefix + v.Type().Field(i).Name
		switch field := v.Field(i); {
		case field.Kind() == reflect.Struct:
			numbers(field, name+".", into)
		case field.Kind() == reflect.Array:
			for j := range field.Len() {
				into[fmt.Sprintf("%s.%d", name, j)] = field.Index(j).Uint()
			}
		case field.CanInt():
			into[name] = uint64(field.Int())
		case field.CanUint():
			into[name] = field.Uint()
		}
	}
	return into
}

// Each figure of the total is the sum of the loops'.
func TestTotalIsTheSum(t *testing.T) {
	var a, b LoopStats
	next := uint64(0)
	distinct(reflect.ValueOf(&a).Elem(), &next)
	next *= 1000
	distinct(reflect.ValueOf(&b).Elem(), &next)
	sum := a
	sum.Add(b)
	first, second := numbers(reflect.ValueOf(a), "", map[string]uint64{}), numbers(reflect.ValueOf(b), "", map[string]uint64{})
	for name, got := range numbers(reflect.ValueOf(sum), "", map[string]uint64{}) {
		if want := first[name] + second[name]; got != want {
			t.Errorf("the total's %s is %d, want %d + %d", name, got, first[name], second[name])
		}
	}
}

// Each figure of a loop comes from the counter of that name.
func TestEachCounterIsShown(t *testing.T) {
	l := unstarted(t)
	counters := reflect.ValueOf(&l.shared.Counters).Elem()
	want := make(map[string]uint64)
	n := 0
	for i := range counters.NumField() {
		if c, ok := counters.Field(i).Addr().Interface().(*session.Counter); ok {
			n += 11
			c.Add(n)
			want[counters.Type().Field(i).Name] = uint64(n)
		}
	}
	causes := map[session.Cause]string{
		session.CausePanic: "Panic", session.CauseDrainTimeout: "DrainTimeout", session.CauseWriteStall: "WriteStall",
		session.CauseSendBudget: "SendBudget", session.CauseSendLimit: "SendLimit", session.CauseRecvRate: "RecvRate", session.CauseIdle: "Idle",
		session.CauseShutdown: "Shutdown", session.CauseAborted: "Aborted", session.CauseDisconnected: "Disconnected",
		session.CausePeerReset: "PeerReset", session.CausePeerClosed: "PeerClosed", session.CauseOther: "Other",
	}
	for cause := range session.Causes {
		name := causes[cause]
		if name == "" {
			t.Errorf("cause %d is not in Stats", cause)
		}
		n += 11
		l.shared.Counters.Ended[cause].Add(n)
		want["Ended."+name] = uint64(n)
	}
	liveOf(l).Store(1001)
	counterOf[atomic.Uint64](l, "wakeUps").Store(1002)
	l.stalls.Store(1003)
	l.stalled.Store(1004)
	for name, n := range map[string]uint64{"Sessions": 1001, "WakeUps": 1002, "Stalls": 1003, "Stalled": 1004} {
		want[name] = n
	}
	now := l.Now()
	for i := range histogram.Octaves + 1 { // one lag in the first bucket, two in the second, and so on
		lag := histogram.OctaveBound(i) - 1
		for range i + 1 {
			l.probe.Ask(now)
			l.probe.Answer(now + lag)
		}
		want[fmt.Sprintf("Lag.Buckets.%d", i)] = uint64(i + 1)
		want["Lag.Sum"] += uint64(i+1) * uint64(lag)
	}
	l.probe.Ask(now)
	got := numbers(reflect.ValueOf(l.stats()), "", map[string]uint64{})
	if took := l.Now() - now; got["Unresponsive"] == 0 || got["Unresponsive"] > uint64(took) {
		t.Errorf("Unresponsive is %d ns, want at most %v", got["Unresponsive"], took)
	}
	delete(got, "Unresponsive")
	for name, n := range want {
		if got[name] != n {
			t.Errorf("%s is %d, want %d", name, got[name], n)
		}
		delete(got, name)
	}
	for name := range got {
		t.Errorf("%s comes from no counter", name)
	}
	liveOf(l).Store(0)
}

// Each cause of a refusal is shown as what it is, and counts in the sum.
func TestEachRefusalIsShown(t *testing.T) {
	e, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	var want Refused
	sum := uint64(0)
	for i, c := range []struct {
		cause refusal
		shown *uint64
	}{
		{refusedFull, &want.Full}, {refusedDescriptors, &want.Descriptors}, {refusedFactory, &want.Factory}, {refusedClosing, &want.Closing},
		{refusedFailed, &want.Failed}, {refusedDenied, &want.Denied}, {refusedPerAddress, &want.PerAddress},
		{refusedAcceptRate, &want.AcceptRate}, {refusedAdmit, &want.Admit}, {refusedUntrusted, &want.Untrusted},
		{refusedProxyHeader, &want.ProxyHeader}, {refusedProxyLate, &want.ProxyLate}, {refusedHandshake, &want.Handshake},
		{refusedHandshakeLate, &want.HandshakeLate},
	} {
		e.refused[c.cause].Store(1 << i)
		*c.shown = 1 << i
		sum += 1 << i
	}
	if got := e.Stats().Refused; got != want || got.Sum() != sum {
		t.Errorf("%+v, sum %d, want %+v, sum %d", got, got.Sum(), want, sum)
	}
	for name, n := range numbers(reflect.ValueOf(want), "", map[string]uint64{}) {
		if n == 0 {
			t.Errorf("this test does not know Refused.%s", name)
		}
	}
}

// The engine's own figures are what they are called.
func TestEachFigureOfTheEngineIsShown(t *testing.T) {
	e, err := New(Options{SendBudget: 2 << 20})
	if err != nil {
		t.Fatal(err)
	}
	e.sessions.Store(1)
	e.accepted.Store(2)
	e.dialed.Store(3)
	e.acceptErrors.Store(4)
	e.dialErrors.Store(5)
	e.offloaded.Working.Store(6)
	e.offloaded.Waiting.Store(7)
	s := e.Stats()
	got := fmt.Sprint(s.Sessions, s.Accepted, s.Dialed, s.AcceptErrors, s.DialErrors, s.Working, s.Waiting, s.Queued, s.MaxSessions, len(s.Loops))
	if want := "1 2 3 4 5 6 7 0 0 0"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
