package engine

import (
	"fmt"
	"net"
	"reflect"
	"strconv"
	"sync/atomic"

	"github.com/servercore-go/servercore/session"
)

// refusal is why a connection did not become a session.
type refusal uint8

// The refusals, in the order of the fields of Refused.
const (
	refusedFull refusal = iota
	refusedDescriptors
	refusedFactory
	refusedClosing
	refusedFailed
	refusedDenied
	refusedPerAddress
	refusedAcceptRate
	refusedAdmit
	refusedUntrusted
	refusedProxyHeader
	refusedProxyLate
	refusedHandshake
	refusedHandshakeLate
	refusals // how many there are
)

// String returns the name of the field of Refused.
func (r refusal) String() string { return reflect.TypeFor[Refused]().Field(int(r)).Name }

// refusedCounts counts refusals by cause. Any goroutine.
type refusedCounts [refusals]atomic.Uint64

// read returns the counts.
func (c *refusedCounts) read() (r Refused) {
	fields := reflect.ValueOf(&r).Elem()
	for cause := range c {
		fields.Field(cause).SetUint(c[cause].Load())
	}
	return r
}

// listenerCounts is what is counted of a listener, besides what the parts of the loops count. Any goroutine.
type listenerCounts struct {
	index    int    // in the order of Listen
	name     string // fixed by Start
	accepted atomic.Uint64
	refused  refusedCounts
}

// label returns the name of the listener, "" without one.
func (o *origin) label() string {
	if o.counts == nil {
		return ""
	}
	return o.counts.name
}

// name gives the listener a name that none in taken has: its network and address, the port resolved. The caller holds the engine's mu.
func (l *Listener) name(taken map[string]bool) {
	address := l.address
	if l.addr != nil {
		address = l.addr.String()
	}
	name := l.origin.network + "://" + address
	for n := 2; taken[name]; n++ { // several descriptors of one socket (From), or listeners that were closed before Start
		name = l.origin.network + "://" + address + "#" + strconv.Itoa(n)
	}
	taken[name] = true
	l.origin.counts.name = name
}

// part returns what the sessions of an origin share on this loop.
func (l *loop) part(o *origin) *session.Loop {
	if o.counts == nil || o.counts.index >= len(l.parts) {
		return l.shared
	}
	return l.parts[o.counts.index]
}

// countAccepted counts a session that a listener has accepted, or an Upgrade has brought.
func (e *Engine) countAccepted(o *origin) {
	e.accepted.Add(1)
	if o.counts != nil {
		o.counts.accepted.Add(1)
	}
}

// countRefused counts a connection that does not become a session. remote is nil if there is no address, err if the cause says it all.
func (e *Engine) countRefused(o *origin, cause refusal, remote net.Addr, err error) {
	e.refused[cause].Add(1)
	if o.counts != nil {
		o.counts.refused[cause].Add(1)
	}
	if t := e.options.Trace; t != nil && t.Refuse != nil {
		e.callTrace("Refuse", func() {
			t.Refuse(TraceRefuse{Listener: o.label(), Remote: remote, Cause: labelOf(cause.String()), Err: err})
		})
	}
}

// copied has, for each field of LoopStats that session.Counters has too, the index in the one and in the other.
var copied = func() (pairs [][2]int) {
	from, to := reflect.TypeFor[session.Counters](), reflect.TypeFor[LoopStats]()
	for i := range from.NumField() {
		if f := from.Field(i); f.Type == reflect.TypeFor[session.Counter]() {
			t, ok := to.FieldByName(f.Name)
			if !ok {
				panic(fmt.Sprintf("engine: LoopStats has no field %s, which session.Counters has", f.Name))
			}
			pairs = append(pairs, [2]int{i, t.Index[0]})
		}
	}
	return pairs
}()

// endedFields has the index in Ended for each cause.
var endedFields = func() (index [session.Causes]int) {
	for cause := range session.Causes {
		f, ok := reflect.TypeFor[Ended]().FieldByName(cause.String())
		if !ok {
			panic(fmt.Sprintf("engine: Ended has no field %s", cause))
		}
		index[cause] = f.Index[0]
	}
	return index
}()

// LoopStatsOf returns what the counters of a loop's sessions tell: all but Sessions, WakeUps, Stalls, Stalled and Lag. It is for event loops other
// than the engine's, such as those of package ongnet.
func LoopStatsOf(c *session.Counters) LoopStats {
	var s LoopStats
	from, to := reflect.ValueOf(c).Elem(), reflect.ValueOf(&s).Elem()
	for _, pair := range copied {
		to.Field(pair[1]).SetUint(from.Field(pair[0]).Addr().Interface().(*session.Counter).Load())
	}
	ended := reflect.ValueOf(&s.Ended).Elem()
	for cause := range c.Ended {
		ended.Field(endedFields[cause]).SetUint(c.Ended[cause].Load())
	}
	return s
}

// Add adds each figure of o.
func (s *LoopStats) Add(o LoopStats) { addAll(reflect.ValueOf(s).Elem(), reflect.ValueOf(o)) }

// addAll adds the numbers in o to those of s, whatever structs and arrays they are in.
func addAll(s, o reflect.Value) {
	switch s.Kind() {
	case reflect.Struct:
		for i := range s.NumField() {
			addAll(s.Field(i), o.Field(i))
		}
	case reflect.Array:
		for i := range s.Len() {
			addAll(s.Index(i), o.Index(i))
		}
	case reflect.Uint64:
		s.SetUint(s.Uint() + o.Uint())
	case reflect.Int, reflect.Int64:
		s.SetInt(s.Int() + o.Int())
	default:
		panic("engine: no sum of a " + s.Type().String())
	}
}
