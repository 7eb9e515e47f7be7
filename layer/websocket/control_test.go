package websocket_test

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/servercore-go/servercore/layer/websocket"
	"github.com/servercore-go/servercore/pool"
	"github.com/servercore-go/servercore/session"
)

// closeFrame is what l sends as its last word, as code and reason; -1 for a frame without.
func closeFrame(t testing.TB, l *websocket.Layer, client bool) (code int, reason string) {
	t.Helper()
	frames := decode(t, l.Own(nil, true), client)
	if len(frames) != 1 || frames[0].first != fin|closeOp {
		t.Fatalf("sent %q", frames)
	}
	p := frames[0].payload
	if p == "" {
		return -1, ""
	}
	return int(p[0])<<8 | int(p[1]), p[2:]
}

func TestCodeOfTheLastWord(t *testing.T) {
	long := strings.Repeat("\u00e9", 100) // 200 bytes
	for _, tt := range []struct {
		reason error
		code   int
		text   string
	}{
		{nil, 1000, ""},
		{session.ErrDisconnected, 1000, ""},
		{session.ErrIdle, 1000, ""},
		{errors.New("a secret"), 1000, ""},
		{session.ErrShutdown, 1001, ""},
		{session.ErrRecvRate, 1008, ""},
		{fmt.Errorf("%w: boom", session.ErrPanic), 1011, ""},
		{session.ErrTruncated, 1002, ""},
		{&session.CloseError{Code: 4000, Reason: "kicked"}, 4000, "kicked"},
		{fmt.Errorf("wrapped: %w", &session.CloseError{Code: 1013}), 1013, ""},
		{&session.CloseError{Code: 3000, Reason: long}, 3000, long[:122]},
		{&session.CloseError{Code: 3000, Reason: "a" + long}, 3000, "a" + long[:122]},
		{&session.CloseError{Code: 3000, Reason: "\xff"}, 3000, "\uFFFD"},
		{&session.CloseError{Code: 1005, Reason: "none"}, -1, ""},
		{&session.CloseError{Reason: "bye"}, 1000, "bye"},
		{&session.CloseError{Code: 1006}, 1011, ""},
		{&session.CloseError{Code: 5000}, 1011, ""},
		{&websocket.ProtocolError{Code: 1009, Text: "too long"}, 1009, "too long"},
	} {
		for _, client := range []bool{false, true} {
			l := accepted
			if client {
				l = dialled
			}
			w := l(t, websocket.Options{})
			w.Finish(tt.reason)
			w.Finish(&session.CloseError{Code: 4999}) // comes too late
			if !w.Pending() || len(w.Own(nil, false)) > 0 {
				t.Fatal("the last word is not due, or stands within a message")
			}
			if code, text := closeFrame(t, w, client); code != tt.code || text != tt.text {
				t.Errorf("%v: %d %q, want %d %q", tt.reason, code, text, tt.code, tt.text)
			}
			if w.Pending() || len(w.Own(nil, true)) > 0 || !w.IsIdle() {
				t.Errorf("%v: something follows the last word, or is kept", tt.reason)
			}
		}
	}
}

// The peer's close frame is answered with its code, unless the application has given one of its own.
func TestAnswerToACloseFrame(t *testing.T) {
	for _, tt := range []struct {
		payload string
		reason  func(err error) error
		code    int
	}{
		{"\x0f\xa1bye", func(err error) error { return err }, 4001},
		{"\x0f\xa1bye", func(error) error { return session.ErrPeerClosed }, 4001},
		{"\x0f\xa1bye", func(error) error { return nil }, 4001},
		{"", func(error) error { return session.ErrDisconnected }, -1},
		{"\x0f\xa1bye", func(error) error { return &session.CloseError{Code: 4002} }, 4002},
	} {
		l := accepted(t, websocket.Options{})
		_, used, more, err := l.Open(nil, append(frame{fin | closeOp, tt.payload}.encode(true), "ignored"...))
		var closed *session.CloseError
		if !errors.Is(err, io.EOF) || !errors.As(err, &closed) || used == 0 || more {
			t.Fatalf("%v", err)
		}
		if tt.payload != "" && (closed.Code != 4001 || closed.Reason != "bye") || tt.payload == "" && *closed != (session.CloseError{Code: 1005}) {
			t.Errorf("%+v", closed)
		}
		if l.Pending() {
			t.Error("the answer is due before Finish")
		}
		if err := l.Ended(); err != nil {
			t.Errorf("Ended: %v", err)
		}
		l.Finish(tt.reason(err))
		if code, text := closeFrame(t, l, false); code != tt.code || text != "" {
			t.Errorf("%q: answered with %d %q, want %d", tt.payload, code, text, tt.code)
		}
	}
}

func TestEndWithoutACloseFrame(t *testing.T) {
	l := accepted(t, websocket.Options{})
	err := l.Ended()
	var closed *session.CloseError
	if !errors.Is(err, session.ErrTruncated) || !errors.Is(err, io.ErrUnexpectedEOF) || !errors.As(err, &closed) || closed.Code != 1006 || errors.Is(err, io.EOF) {
		t.Errorf("%v", err)
	}
	l.Finish(err)
	if code, _ := closeFrame(t, l, false); code != 1002 {
		t.Errorf("code %d", code)
	}
}

// Pongs that wait are bounded: what is more is not answered, but for the latest ping.
func TestPongsAreBounded(t *testing.T) {
	l := accepted(t, websocket.Options{})
	var last string
	for i := range 10_000 {
		last = fmt.Sprintf("%0125d", i)
		if _, _, _, err := l.Open(nil, frame{fin | ping, last}.encode(true)); err != nil {
			t.Fatal(err)
		}
	}
	own := l.Own(nil, true)
	if frames := decode(t, own, false); len(own) > 2<<10 || len(frames) == 0 || frames[len(frames)-1] != (frame{fin | pong, last}) {
		t.Errorf("%d bytes, %d frames", len(own), len(frames))
	}
	if !l.IsIdle() {
		t.Error("something is kept")
	}
	noBuffers(t)
}

// Own appends to what is there, and the pong is before the last word.
func TestOrderOfOwnBytes(t *testing.T) {
	l := accepted(t, websocket.Options{})
	if _, _, _, err := l.Open(nil, frame{fin | ping, "p"}.encode(true)); err != nil {
		t.Fatal(err)
	}
	l.Finish(nil)
	if got := string(l.Own([]byte("before"), true)); got != "before\x8a\x01p\x88\x02\x03\xe8" {
		t.Errorf("%q", got)
	}
	if _, _, _, err := l.Open(nil, frame{fin | ping, "p"}.encode(true)); err != nil || l.Pending() {
		t.Errorf("%v, pending %v: a pong after the last word", err, l.Pending())
	}
}

// After Discard nothing is delivered or held, whatever its size; pings are answered and the close frame is read.
func TestDiscard(t *testing.T) {
	huge := strings.Repeat("\xff", 100_000)
	for _, begun := range [][]frame{nil, {{text, "begun"}}} {
		for k := range 3 {
			l := accepted(t, websocket.Options{MaxMessage: 1000, Compression: true}, offer)
			if _, _, _, err := l.Open(nil, encodeAll(true, begun...)); err != nil {
				t.Fatal(err)
			}
			l.Discard()
			noBuffers(t)
			frames := []frame{{text, huge}, {fin | ping, "p"}, {cont, ""}, {fin | cont, huge}, {fin | rsv1 | binaryOp, "garbage"}, {fin | text, ""}}
			if begun != nil {
				frames[0].first = cont
			}
			wire := encodeAll(true, frames...)
			for _, c := range []cut{cuts(len(wire))[k]} {
				h := hear(t, l, wire, c, make([]byte, 64<<10), false)
				if h.messages != nil || h.err != nil || len(h.own) != 1 || !l.IsIdle() {
					t.Errorf("%s: messages %.100q, %v, own %q", c.name, h.messages, h.err, h.own)
				}
			}
			if h := hear(t, l, frame{fin | closeOp, ""}.encode(true), cuts(0)[0], nil, false); !errors.Is(h.err, io.EOF) {
				t.Errorf("the end: %v", h.err)
			}
		}
	}
	l := accepted(t, websocket.Options{})
	part := frame{fin | text, "abcdef"}.encode(true)
	if _, _, _, err := l.Open(nil, part[:8]); err != nil {
		t.Fatal(err)
	}
	l.Discard()
	if h := hear(t, l, append(part[8:], frame{fin | ping, ""}.encode(true)...), cuts(0)[0], nil, false); h.messages != nil || h.err != nil || len(h.own) != 1 {
		t.Errorf("in the middle of a frame: %q, %v", h.messages, h.err)
	}
	noBuffers(t)
}

// pings drives the clock of a layer.
type pings struct {
	t *testing.T
	l *websocket.Layer
}

// at expires the deadline, which must be at that time, and returns the pings that are due then.
func (p pings) at(now time.Duration) []string {
	p.t.Helper()
	if at := p.l.NextAt(); at != now {
		p.t.Fatalf("the next deadline is at %v, want %v", at, now)
	}
	if err := p.l.Expire(now - 1); err != nil || p.l.NextAt() != now {
		p.t.Fatalf("too early: %v", err)
	}
	if err := p.l.Expire(now); err != nil {
		p.t.Fatal(err)
	}
	return hearOwn(p.t, p.l, false)
}

func (p pings) pong(payload string) {
	p.t.Helper()
	if _, _, _, err := p.l.Open(nil, frame{fin | pong, payload}.encode(true)); err != nil {
		p.t.Fatal(err)
	}
}

func TestPingsAndPongs(t *testing.T) {
	const start, interval, timeout = 1000 * time.Second, 30 * time.Second, 10 * time.Second
	begin := func(o websocket.Options) pings {
		p := pings{t, accepted(t, o)}
		if at := p.l.NextAt(); at <= 0 || at > time.Microsecond {
			t.Fatalf("the first deadline is at %v: the clock has to be told at once", at)
		}
		if err := p.l.Expire(start); err != nil || p.l.Pending() {
			t.Fatal(err)
		}
		return p
	}
	p := begin(websocket.Options{})
	if own := p.at(start + interval); len(own) != 1 {
		t.Fatalf("sent %q", own)
	}
	p.pong("\x00\x00\x00\x01")
	if own := p.at(start + 2*interval); len(own) != 1 {
		t.Fatalf("sent %q", own)
	}
	p.pong("\x00\x00\x00\x01") // of the last one
	p.pong("")                 // unsolicited
	if err := p.l.Expire(start + 2*interval + timeout); !errors.Is(err, session.ErrIdle) || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("no pong: %v", err)
	}

	p = begin(websocket.Options{})
	p.at(start + interval)
	part := frame{fin | text, "in three pieces"}.encode(true)
	for i := range 2 { // a message is under way: the pong may be behind it
		if _, _, _, err := p.l.Open(nil, part[i*8:][:8]); err != nil {
			t.Fatal(err)
		}
		p.at(start + interval + time.Duration(i+1)*timeout)
	}
	if err := p.l.Expire(start + interval + 3*timeout); !errors.Is(err, session.ErrIdle) {
		t.Errorf("the message does not go on: %v", err)
	}
	p.l.Drop()

	p = begin(websocket.Options{})
	if err := p.l.Expire(start + interval); err != nil {
		t.Fatal(err)
	}
	for i := range 5 { // the ping cannot leave
		if err := p.l.Expire(start + interval + time.Duration(i+1)*timeout); err != nil || len(p.l.Own(nil, false)) > 0 {
			t.Fatal(err)
		}
	}
	if own := hearOwn(t, p.l, false); len(own) != 1 {
		t.Errorf("sent %q", own)
	}
	if err := p.l.Expire(start + interval + 6*timeout); !errors.Is(err, session.ErrIdle) {
		t.Errorf("no pong: %v", err)
	}

	p = begin(websocket.Options{}) // a ping that is due is made, whatever the session waits for
	p.l.Postpone(start + interval - 1)
	if p.l.Pending() {
		t.Error("Postpone makes a ping before it is due")
	}
	p.l.Postpone(start + interval)
	if own := hearOwn(t, p.l, false); len(own) != 1 || p.l.NextAt() != start+interval+timeout {
		t.Errorf("Postpone with a ping due: sent %q, the next deadline is %v, want a ping and %v", own, p.l.NextAt(), start+interval+timeout)
	}

	p = begin(websocket.Options{})
	p.at(start + interval)
	p.l.Postpone(start + interval + timeout - 1) // not due yet
	p.l.Postpone(start + interval + timeout)
	if err := p.l.Expire(start + interval + timeout); err != nil {
		t.Errorf("postponed: %v", err)
	}
	p.pong("\x00\x00\x00\x01")
	p.at(start + 2*interval + timeout)

	p = begin(websocket.Options{PongTimeout: -1})
	for i := range 3 {
		if own := p.at(start + time.Duration(i+1)*interval); len(own) != 1 {
			t.Fatalf("sent %q", own)
		}
	}
	if p = (pings{t, accepted(t, websocket.Options{PingInterval: -1})}); p.l.NextAt() != 0 || p.l.Expire(math.MaxInt64) != nil || p.l.Pending() {
		t.Error("pings are off")
	}
	noBuffers(t)
}

// No ping is sent once either side has said its last word.
func TestNoPingAfterTheLastWord(t *testing.T) {
	ours, theirs := accepted(t, websocket.Options{}), accepted(t, websocket.Options{})
	for _, l := range []*websocket.Layer{ours, theirs} {
		for _, now := range []time.Duration{1, 1 + websocket.DefaultPingInterval} {
			if err := l.Expire(now); err != nil {
				t.Fatal(err)
			}
		}
	}
	ours.Finish(nil)
	if _, _, _, err := theirs.Open(nil, frame{fin | closeOp, ""}.encode(true)); !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	for _, l := range []*websocket.Layer{ours, theirs} {
		if l.NextAt() != 0 || l.Expire(time.Hour) != nil {
			t.Errorf("a deadline at %v", l.NextAt())
		}
	}
	closeFrame(t, ours, false)
	if theirs.Pending() {
		t.Error("a ping after the peer's last word")
	}
}

// Members of a Broadcast with the same settings share a Framing; others do not.
func TestFramingIsShared(t *testing.T) {
	for _, text := range []bool{false, true} {
		s, err := websocket.NewServer(websocket.Options{Compression: true, Text: text})
		if err != nil {
			t.Fatal(err)
		}
		of := func(lines ...string) *websocket.Layer {
			l := s.Layer(nil)
			if _, err := openAll(t, l, request(lines...), cuts(0)[0]); err != nil {
				t.Fatal(err)
			}
			return l
		}
		plain, plain2, deflate, deflate2, window := of(), of(), of(offer), of(offer), of(offer+"; server_max_window_bits=9")
		if plain.Framing() != plain2.Framing() || deflate.Framing() != deflate2.Framing() {
			t.Error("the same settings, two framings")
		}
		if plain.Framing() == deflate.Framing() || deflate.Framing() == window.Framing() || plain.Framing() == nil || window.Framing() == nil {
			t.Error("other settings, the same Framing")
		}
		if (plain.Framing() == plain.TextFraming()) != text || plain.TextFraming() == nil {
			t.Error("the framing of text")
		}
	}
}

// Drop gives back whatever is held, at any moment.
func TestDropGivesEverythingBack(t *testing.T) {
	whole := strings.Repeat("a", 1000)
	for name, wire := range map[string][]byte{
		"a delivered message": frame{fin | text, whole}.encode(true),
		"half a message":      frame{text, whole}.encode(true),
		"half a frame":        frame{fin | text, whole}.encode(true)[:500],
		"half a header":       frame{fin | text, whole}.encode(true)[:3],
		"pongs":               encodeAll(true, frame{fin | ping, "a"}, frame{fin | ping, "b"}),
		"a wrong frame":       encodeAll(true, frame{text, whole}, frame{fin | text, whole}),
		"a close frame":       encodeAll(true, frame{text, whole}, frame{fin | closeOp, ""}),
	} {
		l := accepted(t, websocket.Options{})
		l.Open(nil, wire)
		l.Finish(nil)
		if l.Drop(); pool.Live() != 0 || l.Pending() {
			t.Errorf("%s: %d buffers are held", name, pool.Live())
		}
	}
}
