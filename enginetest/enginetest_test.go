package enginetest

import (
	"errors"
	"net"
	"strings"
	"testing"

	"github.com/servercore-go/servercore/engine"
	kit "github.com/servercore-go/servercore/internal/enginekit"
	"github.com/servercore-go/servercore/session"
)

func find(t *testing.T, name string) promise {
	t.Helper()
	for _, p := range promises() {
		if p.name() == name {
			return p
		}
	}
	t.Fatalf("there is no promise %q", name)
	panic("unreachable")
}

// A suite that cannot fail proves nothing: each of these engines breaks a promise, and the suite finds it.
func TestABrokenEngineIsFound(t *testing.T) {
	for name, damage := range map[string]func(session.Factory) session.Factory{
		"A echo: every client gets back what it has sent": func(f session.Factory) session.Factory {
			return func() session.Handler { return &deaf{f().(*kit.Session)} }
		},
		"E1 Disconnect delivers what was accepted": func(f session.Factory) session.Factory {
			return func() session.Handler { return &hasty{f().(*kit.Session)} }
		},
	} {
		v := Variant{New: func(o engine.Options, network, address string, f session.Factory, opts ...engine.Option) (Server, func() net.Addr, error) {
			return new(Variant).newEngine(o, network, address, damage(f), opts...)
		}}
		v.fillIn()
		p := find(t, name)
		if failed, _ := attempt(t, func(t testing.TB) { p.check(t, &v) }); !failed {
			t.Errorf("%s: an engine that breaks it passes", name)
		}
	}
}

// deaf loses every second byte of its input.
type deaf struct{ *kit.Session }

func (d *deaf) OnRecv(data []byte) {
	if half := data[:len(data)/2]; len(half) > 0 {
		d.Session.OnRecv(half)
	}
}

// hasty aborts where content has disconnected.
type hasty struct{ *kit.Session }

func (h *hasty) OnRecv(data []byte) {
	h.Session.OnRecv(data)
	h.Abort()
}

// attempt takes every way in which a check can end.
func TestAttempt(t *testing.T) {
	order := ""
	for name, tt := range map[string]struct {
		check  func(testing.TB)
		failed bool
		says   string
	}{
		"passes":         {func(testing.TB) {}, false, ""},
		"Errorf":         {func(t testing.TB) { t.Errorf("no %d", 1) }, true, "no 1"},
		"Error twice":    {func(t testing.TB) { t.Error("a", 1); t.Error("b") }, true, "a 1; b"},
		"Fatal":          {func(t testing.TB) { t.Fatal("stop"); t.Error("goes on") }, true, "stop"},
		"Fatalf":         {func(t testing.TB) { t.Fatalf("stop %d", 2) }, true, "stop 2"},
		"FailNow":        {func(t testing.TB) { t.FailNow() }, true, ""},
		"panic":          {func(testing.TB) { panic(errors.New("oh")) }, true, "panic: oh"},
		"in a clean-up":  {func(t testing.TB) { t.Cleanup(func() { t.Fatal("late") }) }, true, "late"},
		"clean-up order": {func(t testing.TB) { t.Cleanup(func() { order += "a" }); t.Cleanup(func() { order += "b" }) }, false, ""},
	} {
		failed, said := attempt(t, tt.check)
		if failed != tt.failed || !strings.Contains(said, tt.says) || strings.Contains(said, "goes on") {
			t.Errorf("%s: failed %t, %q, want %t, %q", name, failed, said, tt.failed, tt.says)
		}
	}
	if order != "ba" {
		t.Errorf("clean-ups ran in the order %q, want the last first", order)
	}
}

// Names of promises are keys of Except: no two are the same, and a number is no name.
func TestPromisesHaveNames(t *testing.T) {
	seen := make(map[string]bool)
	for _, p := range promises() {
		if seen[p.name()] || p.number == "" || p.says == "" || p.check == nil {
			t.Errorf("%q is there twice, or has a part missing", p.name())
		}
		seen[p.name()] = true
	}
	if len(seen) < 100 {
		t.Errorf("%d promises, want 100", len(seen))
	}
}

// What Except has is left out of the verdict, by number or by name, if it fails indeed; verdicts on the list itself are below.
func TestExcept(t *testing.T) {
	fails := func(t testing.TB, _ *Variant) { t.Error("it does not hold") }
	holds := func(testing.TB, *Variant) {}
	all := []promise{{"X1", "first", 0, fails}, {"X1", "second", 0, fails}, {"X2", "third", 0, fails}, {"X2", "fourth", 0, holds},
		{"X3", "of accepting", accepting, fails}}
	v := Variant{Dialled: true, Except: map[string]Exception{"X1": Fails("for a reason"), "X2 third": Fails("for another")}}
	v.run(t, all)
}

// What is not promised does not run, whether it would hold or not.
func TestNotPromised(t *testing.T) {
	ran := 0
	counts := func(testing.TB, *Variant) { ran++ }
	all := []promise{{"X1", "first", alone, counts}, {"X2", "second", alone, counts}, {"X2", "third", alone, counts}}
	v := Variant{Except: map[string]Exception{"X1": NotPromised("for a reason"), "X2 third": NotPromised("for another")}}
	if v.run(t, all); ran != 1 {
		t.Errorf("%d promises were tested of 3, 2 of which are not promised", ran)
	}
}

// Promises about an engine's own end need one.
func TestNoEngine(t *testing.T) {
	fails := func(t testing.TB, _ *Variant) { t.Error("there is no engine") }
	v := Variant{NoEngine: true}
	v.run(t, []promise{{"X1", "of the end of an engine", engines, fails}})
}

func TestExceptIsExact(t *testing.T) {
	holds := func(testing.TB, *Variant) {}
	fails := func(t testing.TB, _ *Variant) { t.Error("no") }
	for name, tt := range map[string]struct {
		check  func(testing.TB, *Variant)
		except map[string]Exception
		want   string
	}{
		"a promise that is kept":               {holds, nil, ""},
		"a promise that is not":                {fails, nil, "no"},
		"an exception":                         {fails, map[string]Exception{"X1": Fails("why")}, ""},
		"an exception by name":                 {fails, map[string]Exception{"X1 it": Fails("why")}, ""},
		"an exception that holds nevertheless": {holds, map[string]Exception{"X1": Fails("why")}, "this promise holds, and Except says: why"},
	} {
		p := promise{"X1", "it", 0, tt.check}
		v := Variant{Except: tt.except}
		if _, said := attempt(t, func(t testing.TB) { v.judge(t, p) }); said != tt.want {
			t.Errorf("%s: %q, want %q", name, said, tt.want)
		}
	}
	v := Variant{Except: map[string]Exception{"X1": Fails("why"), "X3": NotPromised("misspelt")}}
	if left := v.unused([]promise{{"X1", "it", 0, holds}}); len(left) != 1 || left[0] != "X3" {
		t.Errorf("keys that name nothing: %q, want X3", left)
	}
}
