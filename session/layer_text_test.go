package session_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/servercore-go/servercore/frame"
	"github.com/servercore-go/servercore/internal/checksum"
	"github.com/servercore-go/servercore/internal/testkit"
	"github.com/servercore-go/servercore/session"
)

// texter is a layer of messages whose kind is that of the first byte: "t" is text.
type texter struct {
	*checksum.Layer
	text bool
}

func (l *texter) Open(dst, in []byte) (data []byte, used int, more bool, err error) {
	data, used, more, err = l.Layer.Open(dst, in)
	if data != nil {
		l.text = string(data[:min(len(data), 1)]) == "t"
	}
	return data, used, more, err
}

func (l *texter) Text() bool { return l.text }

// marker makes messages that begin with a mark.
type marker struct {
	checksum.Framer
	mark string
}

func (m marker) Append(dst, payload []byte) ([]byte, error) {
	return m.Framer.Append(dst, append([]byte(m.mark), payload...))
}

// textHandler has OnText.
type textHandler struct {
	session.Session
	texts, others []string
}

func (h *textHandler) OnRecv(p []byte) { h.others = append(h.others, string(p)) }

func (h *textHandler) OnText(p []byte) { h.texts = append(h.texts, string(p)) }

// Text goes to OnText of a handler that has it, and SendText makes messages of their own kind.
func TestTextMessages(t *testing.T) {
	k := *framing
	k.framing = session.NewMessageFraming(marker{checksum.Framer{Server: true}, "binary "}, marker{checksum.Framer{Server: true}, "text "})
	l := newLoop(t, session.Limits{})
	h := &textHandler{}
	p := newLayers(t, &k, checksum.Options{})
	p.bind(l, h, &texter{Layer: p.ofSession().(*checksum.Layer)})
	p.c.Connected()
	for _, message := range []string{"this is text", "binary", "text"} {
		p.send(message)
	}
	l.Run()
	if len(h.texts) != 2 || h.texts[0] != "this is text" || h.texts[1] != "text" || len(h.others) != 1 || h.others[0] != "binary" {
		t.Errorf("OnText got %q, OnRecv %q", h.texts, h.others)
	}
	for _, send := range []func([]byte) error{h.Send, h.SendText} {
		if err := send([]byte("1")); err != nil {
			t.Error(err)
		}
	}
	l.Run()
	p.want("binary 1text 1", false)
	if h.Request() != nil || h.TLS() != nil {
		t.Error("a request, or TLS")
	}
}

// Packets travel in messages, however the peer cuts them.
func TestPacketsInMessages(t *testing.T) {
	k := *framing
	k.framing = k.framing.Carry(frame.LengthField{MaxFrameLength: 100, LengthFieldLength: 1, InitialBytesToStrip: 1})
	l := newLoop(t, session.Limits{})
	var got []string
	h := &testkit.Handler{Recv: func(h *testkit.Handler, data []byte) {
		got = append(got, string(data))
		_ = h.Send(data)
	}}
	p := newLayers(t, &k, checksum.Options{})
	p.bind(l, h, nil)
	p.c.Connected()
	for _, piece := range []string{"\x05he", "llo\x03", "you\x01!"} {
		p.send(piece)
	}
	l.Run()
	if want := []string{"hello", "you", "!"}; !slices.Equal(got, want) {
		t.Errorf("packets %q, want %q", got, want)
	}
	p.want("\x05hello\x03you\x01!", false)
	if err := h.Send(make([]byte, 200)); !errors.Is(err, frame.ErrTooLarge) {
		t.Errorf("Send of too much: %v", err)
	}
}

// What was received before there was a session comes first: plain bytes, then those of the wire.
func TestPreload(t *testing.T) {
	l := newLoop(t, session.Limits{FirstByte: time.Second})
	h := &testkit.Handler{}
	p := newLayers(t, sealing, checksum.Options{})
	p.bind(l, h, nil)
	early := p.wire(nil, " and wire")
	(*session.Driver)(p.c.Driver).Preload([]byte("plain"), early)
	p.c.Connected()
	l.Run()
	if string(h.Received) != "plain and wire" {
		t.Errorf("OnRecv got %q", h.Received)
	}
}
