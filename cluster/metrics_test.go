package cluster

import (
	"context"
	"reflect"
	"strings"
	"testing"

	"github.com/servercore-go/servercore/engine"
)

// V2: each field of Stats is declared by the conventions of Prometheus, and its sample has its value.
func TestEachFieldIsDeclared(t *testing.T) {
	var s Stats
	v := reflect.ValueOf(&s).Elem()
	for i := range v.NumField() {
		switch f := v.Field(i); f.Kind() {
		case reflect.Uint64:
			f.SetUint(uint64(100 + i))
		case reflect.Int:
			f.SetInt(int64(100 + i))
		default:
			f.SetBool(true)
		}
	}
	seen := make(map[string]bool)
	i := 0
	for m := range s.Samples() {
		f, want := v.Type().Field(i), float64(100+i)
		if f.Type.Kind() == reflect.Bool {
			want = 1
		}
		if seen[m.Name] || !strings.HasPrefix(m.Name, "servercore_cluster_") || strings.ToLower(m.Name) != m.Name || len(m.Help) < 10 || !strings.HasSuffix(m.Help, ".") && !strings.HasSuffix(m.Help, "0.") {
			t.Errorf("%s: name %q, help %q", f.Name, m.Name, m.Help)
		}
		seen[m.Name] = true
		if counts := f.Type.Kind() == reflect.Uint64; counts != strings.HasSuffix(m.Name, "_total") || counts != (m.Kind == engine.KindCounter) {
			t.Errorf("%s: %s is a %v", f.Name, m.Name, m.Kind)
		}
		if m.Value != want || len(m.Labels)+len(m.LabelValues) != 0 {
			t.Errorf("%s is %v, want %v", m.Name, m.Value, want)
		}
		i++
	}
	if n := len((*Cluster)(nil).Metrics()); n != i || i != v.NumField() {
		t.Errorf("%d metrics, %d samples of %d fields", n, i, v.NumField())
	}
	for range s.Samples() {
		break // a reader may stop
	}
}

// What a node tells is what there is: nodes, rooms, members, claims, the bus. A counter never falls.
func TestSamplesAreTheNode(t *testing.T) {
	nodes := three(t)
	a, b := nodes[0], nodes[1]
	u, v := a.connect(), b.connect()
	a.Room("one").Join(u)
	a.Room("two").Join(u)
	b.Room("two").Join(v)
	must(t, b.Claim(ctx(t), "k", v))
	eventually(t, "all is known", func() bool {
		n, err := a.Room("two").Len(context.Background())
		return err == nil && n == 2 && a.Holder("k") == b.ID()
	})
	must(t, b.Room("two").Broadcast([]byte("x\n"), v))
	if got := u.line(t); got != "x" {
		t.Errorf("%q", got)
	}
	got := make(map[string]float64)
	for s := range a.Samples() {
		got[strings.TrimPrefix(s.Name, "servercore_cluster_")] = s.Value
	}
	for name, want := range map[string]float64{"nodes": 3, "rooms": 2, "known_members": 3, "known_claims": 1, "sessions": 1, "bus_up": 1,
		"received_messages_total": 1, "published_messages_total": 0, "missed_messages_total": 0, "dropped_messages_total": 0} {
		if value, ok := got[name]; !ok || value != want {
			t.Errorf("%s is %v (%v), want %v", name, value, ok, want)
		}
	}
	a.stats.dropped.Store(5)
	if n := a.Stats().Dropped; n != 5 {
		t.Errorf("Dropped is %d", n)
	}
	a.stats.dropped.Store(3) // a subscription is being ended
	if n := a.Stats().Dropped; n != 5 {
		t.Errorf("Dropped has fallen to %d", n)
	}
	a.stats.dropped.Store(0)
	b.Room("two").Leave(v)
	if s := b.Stats(); s.Rooms != 0 {
		t.Errorf("%d rooms without a member", s.Rooms)
	}
	must(t, a.Close())
	if s := a.Stats(); s.Available || s.Rooms+s.Sessions != 0 {
		t.Errorf("a closed node: %+v", s)
	}
}
