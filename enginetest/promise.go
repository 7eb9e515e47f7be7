package enginetest

import (
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	kit "github.com/servercore-go/servercore/internal/enginekit"
)

// promise is a subtest: a number of the contract, and what of it is tested.
type promise struct {
	number, says string
	needs        trait
	check        func(t testing.TB, v *Variant)
}

// trait is what a promise needs of a variant to mean something.
type trait uint8

const (
	accepting trait = 1 << iota // sessions are accepted
	resets                      // the network knows resets
	plain                       // the wire has the application's bytes and no others
	counted                     // it is known how many others it has: see header
	engines                     // the server is an Engine
	alone                       // the machine does nothing else: every variant has it
)

// name is the subtest's, as Except has it.
func (p promise) name() string { return p.number + " " + p.says }

// promises returns all of them, in the order of the contract.
func promises() []promise {
	return slices.Concat(general, lifecycle(), sending, slowPeers, ending, draining(), received(), rooms, trouble)
}

func noLeaks(t *testing.T) { t.Helper(); kit.NoLeaks(t) }

// traits returns what the variant has.
func (v *Variant) traits() (has trait) {
	has = alone
	if !v.Dialled {
		has |= accepting
	}
	if v.Network != "unix" {
		has |= resets
	}
	if v.Client == nil {
		has |= counted
		if !v.Framed {
			has |= plain
		}
	}
	if !v.NoEngine {
		has |= engines
	}
	return has
}

// header returns how many bytes travel with each message besides its own.
func (v *Variant) header() int {
	if v.Framed {
		return packets.LengthFieldLength
	}
	return 0
}

// run runs the promises that mean something to the variant.
func (v *Variant) run(t *testing.T, all []promise) {
	t.Helper()
	all = slices.DeleteFunc(slices.Clone(all), func(p promise) bool { return p.needs&^v.traits() != 0 })
	for _, p := range all {
		if why, excepted := v.exception(p); excepted && why.untried {
			t.Logf("not promised, not run: %q: %s", p.name(), why.why)
			continue
		}
		t.Run(p.name(), func(t *testing.T) {
			if p.needs&alone == 0 {
				t.Parallel()
			}
			v.judge(t, p)
		})
	}
	for _, key := range v.unused(all) {
		t.Errorf("Except has %q, which is no promise that is tested here", key)
	}
}

// exception returns what Except has about a promise, by its name or by its number.
func (v *Variant) exception(p promise) (why Exception, excepted bool) {
	if why, excepted = v.Except[p.name()]; !excepted {
		why, excepted = v.Except[p.number]
	}
	return why, excepted
}

// judge checks a promise, which must hold, or fail if it is excepted.
func (v *Variant) judge(t testing.TB, p promise) {
	t.Helper()
	why, excepted := v.exception(p)
	if !excepted {
		p.check(t, v)
		return
	}
	if failed, said := attempt(t, func(t testing.TB) { p.check(t, v) }); failed {
		t.Logf("excepted: %s. It fails with: %s", why.why, said)
	} else {
		t.Errorf("this promise holds, and Except says: %s", why.why)
	}
}

// unused returns the keys of Except that are neither the number nor the name of a promise.
func (v *Variant) unused(all []promise) []string {
	keys := maps.Clone(v.Except)
	for _, p := range all {
		delete(keys, p.name())
		delete(keys, p.number)
	}
	return slices.Sorted(maps.Keys(keys))
}

// trial is a test whose failure is not that of the test which makes it.
type trial struct {
	testing.TB
	mu       sync.Mutex
	failed   bool
	said     []string
	cleanups []func()
}

// attempt runs a check and returns whether it failed, and what it said.
func attempt(t testing.TB, check func(testing.TB)) (failed bool, said string) {
	a := &trial{TB: t}
	a.do(func() { check(a) })
	for len(a.cleanups) > 0 {
		last := len(a.cleanups) - 1
		f := a.cleanups[last]
		a.cleanups = a.cleanups[:last]
		a.do(f)
	}
	return a.Failed(), strings.Join(a.said, "; ")
}

// do runs f, which may end its goroutine or panic.
func (a *trial) do(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() {
			if value := recover(); value != nil {
				a.Errorf("panic: %v", value)
			}
		}()
		f()
	}()
	<-done
}

func (a *trial) Fail() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.failed = true
}

func (a *trial) Failed() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.failed
}

func (a *trial) Error(args ...any) {
	a.Fail()
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.said) < 5 {
		a.said = append(a.said, strings.TrimSpace(fmt.Sprintln(args...)))
	}
}

func (a *trial) Errorf(format string, args ...any) { a.Error(fmt.Sprintf(format, args...)) }
func (a *trial) Fatal(args ...any)                 { a.Error(args...); runtime.Goexit() }
func (a *trial) Fatalf(format string, args ...any) { a.Errorf(format, args...); runtime.Goexit() }
func (a *trial) FailNow()                          { a.Fail(); runtime.Goexit() }

func (a *trial) Cleanup(f func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.cleanups = append(a.cleanups, f)
}
