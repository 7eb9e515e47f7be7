package checksum

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/servercore-go/servercore/session"
)

// open opens wire, which has no data.
func (e *end) open(t testing.TB, wire []byte) {
	t.Helper()
	r := &receiver{end: e, room: always(100)}
	if r.feed(t, wire); r.err != nil || len(r.data) > 0 {
		t.Fatalf("data %q, error %v", r.data, r.err)
	}
}

func TestProbesAreAnswered(t *testing.T) {
	bothWays(t, func(t *testing.T, shape Shape, server bool) {
		from, to := newPair(t, shape, server)
		var wire []byte
		for _, p := range []string{"a", "", strings.Repeat("b", MaxPayload), "c"} {
			if err := from.Probe([]byte(p)); err != nil || !from.Pending() {
				t.Fatal(err)
			}
			wire = from.Own(wire, true)
		}
		to.open(t, wire[:len(wire)-5]) // the first three: one answer is for all of them
		from.open(t, to.Own(nil, true))
		if c := from.Counts(); c != (Counts{ProbesOut: 4, Answered: 3}) {
			t.Errorf("the sender's counts: %+v", c)
		}
		to.open(t, wire[len(wire)-5:])
		from.open(t, to.Own(nil, true))
		if c := from.Counts(); c != (Counts{ProbesOut: 4, Answered: 4}) {
			t.Errorf("the sender's counts: %+v", c)
		}
		if c := to.Counts(); c != (Counts{ProbesIn: 4, AnswersOut: 2}) || to.Pending() {
			t.Errorf("the receiver's counts: %+v, pending %v", c, to.Pending())
		}
	})
}

func TestProbeErrors(t *testing.T) {
	e := newEnd(t, Sealing, Options{})
	check := func(payload, text string) {
		t.Helper()
		if err := e.Probe([]byte(payload)); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("error %v, want %q", err, text)
		}
	}
	check("", "before the handshake")
	shake(t, e, newEnd(t, Sealing, Options{Server: true}))
	check(strings.Repeat("x", 1025), "a probe of 1025 bytes, at most 1024")
	if err := e.Probe(nil); err != nil {
		t.Error(err)
	}
	check("", "has not left")
	e.Finish(nil)
	check("", "after the last word")
}

// Shape Framing appends nothing inside a message. Shape Sealing does not ask.
func TestOwnInsideAMessage(t *testing.T) {
	for _, shape := range []Shape{Sealing, Framing} {
		from, _ := newPair(t, shape, false)
		if err := from.Probe(nil); err != nil {
			t.Fatal(err)
		}
		from.Finish(nil)
		inside := from.Own([]byte("before"), false)
		if own := len(inside) > len("before"); own != (shape == Sealing) || from.Pending() == own {
			t.Errorf("%v: Own(%q) inside a message, pending %v", shape, inside, from.Pending())
		}
		between := from.Own([]byte("before"), true)
		if own := len(between) > len("before"); own != (shape == Framing) || from.Pending() {
			t.Errorf("%v: Own(%q) between messages, pending %v", shape, between, from.Pending())
		}
		if !bytes.HasPrefix(between, []byte("before")) || !from.Said() {
			t.Errorf("%v: Own(%q), said %v", shape, between, from.Said())
		}
	}
}

// The last word comes behind what is due, and nothing comes behind it.
func TestLastWord(t *testing.T) {
	long := strings.Repeat("x", 5000)
	for _, tt := range []struct {
		reason error
		want   error // besides io.EOF
	}{
		{nil, nil},
		{errors.New("why"), &session.CloseError{Reason: "why"}},
		{&session.CloseError{Code: 1001, Reason: "going away"}, &session.CloseError{Code: 1001, Reason: "going away"}},
		{fmt.Errorf("wrapped: %w", &session.CloseError{Code: 65535}), &session.CloseError{Code: 65535}},
		{errors.New(long), &session.CloseError{Reason: long[:MaxPayload-2]}},
	} {
		bothWays(t, func(t *testing.T, shape Shape, server bool) {
			from, to := newPair(t, shape, server)
			if err := to.Probe(nil); err != nil {
				t.Fatal(err)
			}
			from.open(t, to.Own(nil, true))
			from.Finish(errors.New("an earlier one"))
			from.Finish(tt.reason)
			wire := from.Own(nil, true)
			if from.Pending() || len(from.Own(nil, true)) > 0 {
				t.Error("something comes behind the last word")
			}
			from.Finish(nil)
			if err := to.Probe(nil); err != nil {
				t.Fatal(err)
			}
			from.open(t, to.Own(nil, true))
			if from.Pending() || from.Counts().ProbesIn != 2 {
				t.Errorf("a probe after the last word: pending %v, %+v", from.Pending(), from.Counts())
			}
			r := &receiver{end: to, room: always(10)}
			r.feed(t, wire)
			var got *session.CloseError
			if errors.As(r.err, &got) != (tt.want != nil) || got != nil && *got != *tt.want.(*session.CloseError) || to.Counts().Answered != 1 {
				t.Errorf("last word %v, want %v; %+v", r.err, tt.want, to.Counts())
			}
		})
	}
}

// A side that is done before the handshake says only that.
func TestLastWordBeforeTheHandshake(t *testing.T) {
	server := newEnd(t, Sealing, Options{Server: true})
	if server.Pending() {
		t.Error("a server speaks first")
	}
	server.Finish(session.ErrShutdown)
	client := newEnd(t, Sealing, Options{})
	_, _, _, err := client.Open(nil, server.Own(nil, true))
	var reason *session.CloseError
	if !errors.Is(err, session.ErrHandshake) || !errors.As(err, &reason) || reason.Reason != session.ErrShutdown.Error() {
		t.Error(err)
	}
}

func TestProbeInterval(t *testing.T) {
	const s = time.Second
	client := newEnd(t, Sealing, Options{})
	server := newEnd(t, Sealing, Options{Server: true, ProbeEvery: 10 * s, AnswerWithin: 3 * s})
	at := func(want time.Duration) {
		t.Helper()
		if got := server.NextAt(); got != want {
			t.Fatalf("NextAt = %v, want %v", got, want)
		}
	}
	expire := func(now time.Duration, pending bool) {
		t.Helper()
		if err := server.Expire(now); err != nil || server.Pending() != pending {
			t.Fatalf("Expire(%v): error %v, pending %v", now, err, server.Pending())
		}
	}
	at(0)
	expire(50*s, false)
	shake(t, client, server)
	at(1)
	expire(100*s, false)
	at(110 * s)
	expire(109*s, false)
	expire(111*s, true)
	at(114 * s)
	client.open(t, server.Own(nil, true))
	expire(113*s, false)
	server.open(t, client.Own(nil, true))
	at(121 * s)
	expire(114*s, false)

	if err := server.Probe([]byte("mine")); err != nil { // one that waits will do
		t.Fatal(err)
	}
	expire(121*s, true)
	at(124 * s)
	client.open(t, server.Own(nil, true))
	server.open(t, client.Own(nil, true))
	at(131 * s)
	if c := server.Counts(); c.ProbesOut != 2 || c.Answered != 2 {
		t.Errorf("%+v", c)
	}

	expire(131*s, true)
	server.Own(nil, true)
	err := server.Expire(134 * s)
	if !errors.Is(err, session.ErrIdle) || !errors.Is(err, os.ErrDeadlineExceeded) || !strings.Contains(err.Error(), "probe of 3s ago") {
		t.Errorf("no answer: %v", err)
	}
	server.Finish(err)
	at(0)
	expire(200*s, true) // the last word
}

// The answer to an earlier probe does not stop the deadline of a later one.
func TestProbeIntervalAndOtherProbes(t *testing.T) {
	client := newEnd(t, Framing, Options{})
	server := newEnd(t, Framing, Options{Server: true, ProbeEvery: 10})
	shake(t, client, server)
	_ = server.Expire(10)
	if err := server.Probe([]byte("earlier")); err != nil {
		t.Fatal(err)
	}
	client.open(t, server.Own(nil, true))
	answer := client.Own(nil, true)
	if err := server.Expire(20); err != nil {
		t.Fatal(err)
	}
	server.Own(nil, true)
	server.open(t, answer)
	if at := server.NextAt(); at != 30 || server.Counts().Answered != 1 {
		t.Errorf("NextAt %v, %+v", at, server.Counts())
	}
	if err := server.Expire(30); !errors.Is(err, session.ErrIdle) {
		t.Error(err)
	}
}

func TestDrop(t *testing.T) {
	before := Live()
	s := NewSealer(Options{})
	if Live() != before+1 {
		t.Errorf("%d layers live, %d before", Live(), before)
	}
	s.Drop()
	if Live() != before {
		t.Errorf("%d layers live, %d before", Live(), before)
	}
	if _, _, _, err := s.Open(nil, []byte("x")); err != errDropped {
		t.Errorf("Open: %v", err)
	}
	if _, err := s.Seal(nil, []byte("x")); err != errDropped {
		t.Errorf("Seal: %v", err)
	}
	defer func() {
		if recover() == nil || Live() != before {
			t.Errorf("a second Drop: no panic, or %d layers live", Live())
		}
	}()
	s.Drop()
}
