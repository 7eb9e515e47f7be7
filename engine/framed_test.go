package engine_test

import (
	"bytes"
	"encoding/binary"
	"io"
	"strings"
	"testing"

	"github.com/servercore-go/servercore/engine"
	"github.com/servercore-go/servercore/frame"
	kit "github.com/servercore-go/servercore/internal/enginekit"
	"github.com/servercore-go/servercore/session"
)

// One Send is one OnRecv, over real sockets, however the client cuts its stream.
func TestFramedEcho(t *testing.T) {
	kit.OnNetworks(t, func(t *testing.T, network string, loops int) {
		packets := make(chan int, 1000)
		s := kit.Serve(t, network, engine.Options{Loops: loops}, kit.Hooks{Recv: func(p *kit.Session, data []byte) {
			packets <- len(data)
			kit.Echo(p, data)
		}}, engine.Framed(frame.ServerCore{}))
		c, p := s.Connect()
		var stream []byte
		var sizes []int
		for i := range 100 {
			n := 1 + i*i*6 // up to 58,807
			sizes = append(sizes, n)
			stream, _ = frame.ServerCore{}.Append(stream, kit.Pattern(n))
		}
		go func() {
			for i, rest := 1, stream; len(rest) > 0; i = i*7%9001 + 1 {
				n := min(i, len(rest))
				if _, err := c.Write(rest[:n]); err != nil {
					t.Error(err)
					return
				}
				rest = rest[n:]
			}
			kit.CloseWrite(t, c)
		}()
		got, err := io.ReadAll(c)
		kit.Must(t, err)
		if !bytes.Equal(got, stream) {
			t.Errorf("%d bytes came back, want the %d sent", len(got), len(stream))
		}
		kit.Await(t, p.Ended, "OnDisconnected")
		for i, want := range sizes {
			if n := <-packets; n != want {
				t.Fatalf("packet %d has %d bytes, want %d", i, n, want)
			}
		}
		if n := p.Sent.Load(); n != int64(len(stream)-2*len(sizes)) {
			t.Errorf("OnSend told of %d bytes, want the payloads, %d", n, len(stream)-2*len(sizes))
		}
	})
}

// A length of 0xFFFFFFFF ends the session on the header, whatever follows.
func TestFramedRefusesOnTheHeader(t *testing.T) {
	s := kit.Serve(t, "tcp", engine.Options{Loops: 1}, kit.Hooks{Recv: func(*kit.Session, []byte) { t.Error("OnRecv") }},
		engine.Framed(frame.LengthField{LengthFieldLength: 4, InitialBytesToStrip: 4}))
	c, p := s.Connect()
	kit.Write(t, c, binary.BigEndian.AppendUint32(nil, 0xffffffff))
	body := make([]byte, 1<<20)
	for range 1024 { // a GiB, if it were taken
		if _, err := c.Write(body); err != nil {
			break
		}
	}
	kit.Await(t, p.Ended, "OnDisconnected")
	kit.WantError(t, "reason", p.Err(), frame.ErrTooLarge)
	if n := s.Stats().Total.BytesIn; n > 1<<20 {
		t.Errorf("%d bytes were read", n)
	}
}

// T6: options that cannot work are refused by Listen, with what is wrong.
func TestFramedOptions(t *testing.T) {
	e, err := engine.New(engine.Options{})
	kit.Must(t, err)
	for want, option := range map[string]engine.Option{
		"the framer is nil": engine.Framed(nil),
		"LengthFieldLength": engine.Framed(frame.LengthField{}),
		"Size":              engine.Framed(frame.Fixed{}),
	} {
		_, err := e.Listen("tcp", "127.0.0.1:0", session.Events{}.Factory(), option)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "127.0.0.1:0") {
			t.Errorf("%q is not in %v", want, err)
		}
	}
}
