//go:build linux

package trials

import (
	"errors"
	"strings"
	"testing"
	"time"
)

// The oracle finds each fault that it is for, and no other.
func TestOracleFindsFaults(t *testing.T) {
	good := func() (*client, life) {
		c := &client{sent: 100, orderly: true, out: writer{id: 7, seq: 3}}
		c.in.id, c.in.bytes = 7, 50
		return c, life{ID: 7, Received: 100, Records: 3, Accepted: 50, Sent: 50, Whole: true}
	}
	for name, spoil := range map[string]func(*client, *life){
		"":                                  func(*client, *life) {},
		"more received than sent":           func(_ *client, l *life) { l.Received++ },
		"more records than sent":            func(_ *client, l *life) { l.Records++ },
		"OnSend above what was accepted":    func(c *client, l *life) { l.Sent++; c.in.bytes++ },
		"more read than OnSend told":        func(c *client, _ *life) { c.in.bytes++ },
		"less read, at an orderly end":      func(c *client, _ *life) { c.in.bytes-- },
		"accepted and lost, at that end":    func(_ *client, l *life) { l.Accepted++ },
		"a record cut, at that end":         func(c *client, _ *life) { c.in.partial = new([]byte) },
		"a stream that is not the client's": func(c *client, _ *life) { c.in.wrong = errors.New("foreign") },
	} {
		c, l := good()
		spoil(c, &l)
		o := &oracle{t: t}
		o.judgeStream(c, l)
		if found := len(o.failed) > 0; found != (name != "") {
			t.Errorf("%q: found %q", name, o.failed)
		}
	}
	c, l := good() // an end that is not orderly may lose what was on its way
	c.orderly = false
	c.in.bytes, l.Accepted = 10, 80
	o := &oracle{t: t}
	if o.judgeStream(c, l); len(o.failed) > 0 {
		t.Errorf("after a reset: %q", o.failed)
	}

	o = &oracle{t: t} // but not have told of more than was accepted
	l.Sent = l.Accepted + 1
	if o.judgeStream(c, l); len(o.failed) != 1 {
		t.Errorf("OnSend above what was accepted, after a reset: found %q", o.failed)
	}

	for name, fault := range map[string]calm{
		"":                     {Answers: 1},
		"the bystanders had n": {},
		"bystanders: [":        {Answers: 1, Errors: []string{"reset"}},
	} {
		o := &oracle{t: t}
		o.judgeCalm(fault)
		if found := strings.Join(o.failed, "; "); (found != "") != (name != "") || !strings.Contains(found, name) {
			t.Errorf("%q: found %q", name, found)
		}
	}
	o = &oracle{t: t, lives: map[uint64]life{}}
	if o.keep(report{Lives: []life{{ID: 1, Ended: 5}, {ID: 2}}}); len(o.failed) > 0 {
		t.Errorf("a session that ended once: found %q", o.failed)
	}
	if o.keep(report{Lives: []life{{ID: 1, Ended: 6}}}); len(o.failed) != 1 {
		t.Errorf("a session that ended twice: found %q", o.failed)
	}
}

// At full scale the bystanders' latency is judged: at most five times that before the fault, or 20 ms.
func TestOracleJudgesLatency(t *testing.T) {
	before := *scale
	defer func() { *scale = before }()
	for _, tt := range []struct {
		scale       float64
		before, p99 time.Duration
		found       bool
	}{
		{1, time.Millisecond, 19 * time.Millisecond, false}, {1, time.Millisecond, 21 * time.Millisecond, true},
		{1, 10 * time.Millisecond, 49 * time.Millisecond, false}, {1, 10 * time.Millisecond, 51 * time.Millisecond, true},
		{0.1, time.Millisecond, time.Second, false},
	} {
		*scale = tt.scale
		o := &oracle{t: t, before: calm{P99: tt.before}}
		o.judgeCalm(calm{Answers: 1, P99: tt.p99})
		if found := len(o.failed) > 0; found != tt.found {
			t.Errorf("%+v: found %q", tt, o.failed)
		}
	}
}
