package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/servercore-go/servercore/engine"
	"github.com/servercore-go/servercore/frame"
	"github.com/servercore-go/servercore/record"
	"github.com/servercore-go/servercore/session"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

var framing = frame.LengthField{LengthFieldLength: 4, InitialBytesToStrip: 4}

// hero is a player of a small game: it moves, and is told where it is after each move, and greeted at first. A move of 0 ends the game.
type hero struct {
	session.Session
	change func(*hero, []byte) []byte // what a faulty server makes of an answer, nil for nothing
	moves  uint32
	x, y   int32
}

func (h *hero) OnConnected(net.Addr) { h.answer([]byte("welcome")) }

func (h *hero) OnRecv(p []byte) {
	dx, dy := int8(p[0]), int8(p[1])
	h.moves++
	h.x, h.y = h.x+int32(dx), h.y+int32(dy)
	b := binary.BigEndian.AppendUint32(nil, h.moves)
	b = binary.BigEndian.AppendUint32(b, uint32(h.x))
	b = binary.BigEndian.AppendUint32(b, uint32(h.y))
	h.answer(b)
	if dx == 0 && dy == 0 {
		h.answer([]byte("good bye"))
		h.Disconnect()
	}
}

func (h *hero) answer(b []byte) {
	if h.change != nil {
		b = h.change(h, b)
	}
	if b != nil {
		_ = h.Send(b)
	}
}

// game starts a server and returns its address.
func game(t testing.TB, change func(*hero, []byte) []byte, opts ...engine.Option) string {
	t.Helper()
	e, err := engine.New(engine.Options{})
	must(t, err)
	l, err := e.Listen("tcp", "127.0.0.1:0", func() session.Handler { return &hero{change: change} }, append(opts, engine.Framed(framing))...)
	must(t, err)
	must(t, e.Start())
	t.Cleanup(func() { _ = e.Close() })
	return l.Addr().String()
}

// playGame is one client: it makes moves, waits for the answer to each, and ends in one of three ways.
func playGame(addr string, n int) error {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	b := make([]byte, 16)
	if _, err := io.ReadFull(c, b[:11]); err != nil {
		return err
	}
	r := rand.New(rand.NewPCG(uint64(n), 1))
	for range 20 {
		move, _ := framing.Append(nil, []byte{byte(r.IntN(9) + 1), byte(r.IntN(200))})
		if _, err := c.Write(move); err != nil {
			return err
		}
		if _, err := io.ReadFull(c, b); err != nil {
			return err
		}
	}
	switch n % 3 {
	case 0: // the server ends
		last, _ := framing.Append(nil, []byte{0, 0})
		_, err = c.Write(last)
	case 1: // the client ends
		err = c.(*net.TCPConn).CloseWrite()
	case 2:
		return c.(*net.TCPConn).SetLinger(0)
	}
	if err == nil {
		_, err = io.ReadAll(c)
	}
	return err
}

// recorded records that many clients of the game.
func recorded(t testing.TB, clients int) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "game.pcapng")
	w, err := record.Create(path, record.Options{Memory: 64 << 20})
	must(t, err)
	e, err := engine.New(engine.Options{})
	must(t, err)
	l, err := e.Listen("tcp", "127.0.0.1:0", func() session.Handler { return new(hero) }, engine.Framed(framing), engine.Record(w))
	must(t, err)
	must(t, e.Start())
	var all sync.WaitGroup
	for n := range clients {
		all.Go(func() {
			if err := playGame(l.Addr().String(), n); err != nil {
				t.Errorf("client %d: %v", n, err)
			}
		})
	}
	all.Wait()
	must(t, e.Shutdown(t.Context()))
	must(t, w.Close())
	return path
}

// replay runs the program.
func replay(t testing.TB, args ...string) (code int, out, said string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	code = run(ctx, args, &stdout, &stderr)
	return code, stdout.String(), stderr.String()
}

// want checks the exit code and what is printed.
func want(t testing.TB, code, wantCode int, out string, parts ...string) {
	t.Helper()
	if code != wantCode {
		t.Errorf("exit code %d, want %d:\n%s", code, wantCode, out)
	}
	for _, p := range parts {
		if !strings.Contains(out, p) {
			t.Errorf("no %q in:\n%s", p, out)
		}
	}
}

// A recording of 100 clients, played in each way, differs in nothing.
func TestNoDifference(t *testing.T) {
	path := recorded(t, 100)
	addr := game(t, nil)
	for _, how := range [][]string{
		{"-speed", "1"}, {"-speed", "100"}, {"-speed", "0"}, {"-speed", "0", "-lockstep"}, {"-speed", "0", "-parallel", "3"},
		{"-speed", "0", "-frame", "length4", "-lockstep"}, {"-speed", "0", "-frame", "length4", "-copies", "3"},
	} {
		code, out, said := replay(t, append(how, path, "-addr", addr)...)
		if t.Failed() {
			return
		}
		want(t, code, exitSame, fmt.Sprint(how, out, said), "no difference", "against "+addr)
	}
	code, out, _ := replay(t, path, "-addr", addr, "-speed", "0", "-frame", "length4", "-copies", "3")
	want(t, code, exitSame, out, "300 sessions (3 copies of 100)", "compared  6,504 messages", "sent      ", "kB, in")
}

// One byte that a server sends otherwise is found, with its place and what is around it.
func TestOneChangedByte(t *testing.T) {
	path := recorded(t, 100)
	r, err := record.Open(path)
	must(t, err)
	addr := game(t, func(h *hero, b []byte) []byte {
		if h.moves == 13 && len(b) == 12 {
			b[5] ^= 1
		}
		return b
	})
	code, out, _ := replay(t, path, "-addr", addr, "-speed", "0", "-session", fmt.Sprint(r.Sessions[0].ID))
	offset := 4 + 7 + 12*16 + 4 + 5
	want(t, code, exitDifferent, out, fmt.Sprintf("session %d of %v: byte %d of the answers\n", r.Sessions[0].ID, r.Sessions[0].Client, offset),
		"[00]", "[01]", "1 session differs", "1 session against")
	code, out, _ = replay(t, path, "-addr", addr, "-speed", "0", "-frame", "length4", "-show", "2")
	want(t, code, exitDifferent, out, fmt.Sprintf("byte %d of the answers, message 14, byte 5 of it\n", offset-4-5), "and 98 sessions that are not shown", "100 sessions differ",
		"of which 100 differ")
	code, out, _ = replay(t, path, "-addr", addr, "-speed", "0", "-frame", "length4", "-ignore", "5:1")
	want(t, code, exitSame, out, "no difference")
	code, out, _ = replay(t, path, "-addr", addr, "-speed", "0", "-frame", "length4", "-ignore", "0:5,6:100")
	want(t, code, exitDifferent, out, "100 sessions differ")
}

// Whatever else a server does otherwise is found.
func TestDifferences(t *testing.T) {
	path := recorded(t, 3)
	for name, tt := range map[string]struct {
		change func(*hero, []byte) []byte
		want   string
	}{
		"an answer is missing": {func(h *hero, b []byte) []byte {
			if h.moves == 5 {
				return nil
			}
			return b
		}, "byte"},
		"no answer after the tenth": {func(h *hero, b []byte) []byte {
			if h.moves > 10 {
				return nil
			}
			return b
		}, "after 171 of"},
		"the session ends early": {func(h *hero, b []byte) []byte {
			if h.moves == 5 {
				h.Disconnect()
			}
			return b
		}, "after 75 of"},
		"a reset": {func(h *hero, b []byte) []byte {
			if h.moves == 5 {
				h.Abort()
			}
			return b
		}, "of the answers"},
		"an answer too many": {func(h *hero, b []byte) []byte {
			if h.moves == 20 {
				_ = h.Send(b)
			}
			return b
		}, "of the answers"},
		"another length": {func(h *hero, b []byte) []byte {
			if h.moves == 5 {
				return b[:11]
			}
			return b
		}, "byte"},
	} {
		addr := game(t, tt.change)
		for _, how := range []string{"none", "length4"} {
			code, out, _ := replay(t, path, "-addr", addr, "-speed", "0", "-lockstep", "-wait", "300ms", "-frame", how)
			want(t, code, exitDifferent, name+", -frame "+how+":\n"+out, tt.want, "differ")
			if t.Failed() {
				return
			}
		}
	}
}

// A server that does not end, or resets, where the recorded one finished, is found although each byte is right.
func TestAnotherEnd(t *testing.T) {
	path := recorded(t, 1) // number 0: the server ends
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	r, err := record.Open(path)
	must(t, err)
	defer r.Close()
	var answers []byte
	for e, err := range r.Sessions[0].Events() {
		must(t, err)
		if !e.Client {
			answers = append(answers, e.Data...)
		}
	}
	stay := make(chan struct{})
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = c.Write(answers)
				<-stay
			}()
		}
	}()
	code, out, _ := replay(t, path, "-addr", l.Addr().String(), "-speed", "0", "-wait", "300ms")
	close(stay)
	want(t, code, exitDifferent, out, "the server has not ended the session within 300ms, as the recorded one has (session: disconnected)")
}

// scriptOf makes a script of events.
func scriptOf(t *testing.T, c *config, at time.Time, all []record.Event) *script {
	t.Helper()
	sc, err := c.newScript(&record.Session{Since: at}, func(yield func(record.Event, error) bool) {
		for _, e := range all {
			if !yield(e, nil) {
				return
			}
		}
	}, at)
	must(t, err)
	return sc
}

// A recording that ends with the shutdown of its server, in the middle of the games, differs in nothing: the server played against is not shut down.
func TestRecordedShutdown(t *testing.T) {
	path := filepath.Join(t.TempDir(), "game.pcapng")
	w, err := record.Create(path, record.Options{})
	must(t, err)
	e, err := engine.New(engine.Options{LingerTimeout: 50 * time.Millisecond})
	must(t, err)
	l, err := e.Listen("tcp", "127.0.0.1:0", func() session.Handler { return new(hero) }, engine.Framed(framing), engine.Record(w))
	must(t, err)
	must(t, e.Start())
	const clients = 3 // one that ends after the server, one that resets, one that stays
	var conns [clients]net.Conn
	for i := range conns {
		conns[i], err = net.Dial("tcp", l.Addr().String())
		must(t, err)
		defer conns[i].Close()
		move, _ := framing.Append(nil, []byte{1, byte(i)})
		_, err = conns[i].Write(move)
		must(t, err)
		_, err = io.ReadFull(conns[i], make([]byte, 11+16))
		must(t, err)
	}
	ended := make(chan error, 1)
	go func() { ended <- e.Shutdown(t.Context()) }()
	for i, c := range conns {
		if n, err := c.Read(make([]byte, 1)); err != io.EOF {
			t.Fatalf("%d, %v: want the server's FIN", n, err)
		}
		switch i {
		case 1:
			must(t, c.(*net.TCPConn).SetLinger(0))
			fallthrough
		case 0:
			must(t, c.Close())
		}
	}
	must(t, <-ended)
	must(t, w.Close())
	for _, how := range [][]string{{}, {"-lockstep"}, {"-frame", "length4"}} {
		code, out, said := replay(t, append(how, path, "-addr", game(t, nil), "-speed", "0", "-wait", "20s")...)
		want(t, code, exitSame, out+said, "no difference", "3 sessions")
	}
}

// A client that had waited for the server's end waits for it again, at any speed: who ends first decides what the server does.
func TestClientWaitsForTheEnd(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	first := make(chan string, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		_, _ = c.Write([]byte("a"))
		_ = c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		if _, err := c.Read(make([]byte, 1)); errors.Is(err, io.EOF) {
			first <- "the client"
			return
		}
		first <- "the server"
	}()
	at := time.Unix(0, 0)
	all := []record.Event{{At: at, Data: []byte("a")}, {At: at, Kind: record.Finished}, {At: at, Kind: record.Finished, Client: true}}
	c := &config{addr: l.Addr().String(), address: l.Addr().String(), network: "tcp", wait: 10 * time.Second}
	sc := scriptOf(t, c, at, all)
	p := player{config: c, script: sc, report: newReport(c, []*script{sc}, leftOut{})}
	if r := p.play(t.Context()); r.first != nil {
		t.Errorf("%+v", r.first)
	}
	if who := <-first; who != "the server" {
		t.Errorf("%s has ended first", who)
	}
}

// What cannot be played has exit code 2, and says what to do.
func TestFaults(t *testing.T) {
	path := recorded(t, 1)
	addr := game(t, nil)
	for want, args := range map[string][]string{
		"-addr is missing":              {path},
		"name one recording, got 0":     {"-addr", addr},
		"no such file":                  {"nothing", "-addr", addr},
		"cannot be reached":             {path, "-addr", "127.0.0.1:1"},
		"use none, length2":             {path, "-addr", addr, "-frame", "x"},
		"are no such messages":          {path, "-addr", addr, "-frame", "servercore"},
		"-ignore needs -frame":          {path, "-addr", addr, "-ignore", "1:2"},
		"use FROM:LENGTH":               {path, "-addr", addr, "-ignore", "1"},
		"no session that can be played": {path, "-addr", addr, "-session", "999999"},
		"use host:port or unix:PATH":    {path, "-addr", "x"},
		"must be positive":              {path, "-addr", addr, "-copies", "0"},
		"use 0 or a positive number":    {path, "-addr", addr, "-speed", "-1"},
	} {
		if code, _, said := replay(t, args...); code != exitFault || !strings.Contains(said, want) {
			t.Errorf("%v: exit code %d, %q, want %q", args, code, said, want)
		}
	}
	if code, out, _ := replay(t, "-h"); code != exitSame || !strings.Contains(out, "-lockstep") {
		t.Errorf("-h: exit code %d, %q", code, out)
	}
}

// The first byte that differs is found, also if it is one that only one of them has.
func TestDiffers(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		want int
	}{{"", "", -1}, {"abc", "abc", -1}, {"abc", "abd", 2}, {"abc", "ab", 2}, {"ab", "abc", 2}, {"", "a", 0}, {"xbc", "abc", 0}} {
		if got := differs([]byte(tt.a), []byte(tt.b)); got != tt.want {
			t.Errorf("%q and %q differ at %d, want %d", tt.a, tt.b, got, tt.want)
		}
	}
}

// withGap returns a recorded session of which a piece was cut out.
func withGap(t *testing.T) *record.Session {
	t.Helper()
	path := filepath.Join(t.TempDir(), "gap.pcapng")
	w, err := record.Create(path, record.Options{})
	must(t, err)
	address := func(port int) net.Addr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: port} }
	s := w.Begin(record.Info{ID: 3, Local: address(1), Remote: address(2)})
	for _, piece := range []string{"one", "two", "three"} {
		s.Received(time.Time{}, []byte(piece))
	}
	must(t, w.Close())
	b, err := os.ReadFile(path)
	must(t, err)
	var cut []byte
	for len(b) > 0 {
		block := b[:binary.LittleEndian.Uint32(b[4:])]
		if b = b[len(block):]; !bytes.Contains(block, []byte("two")) {
			cut = append(cut, block...)
		}
	}
	must(t, os.WriteFile(path, cut, 0o600))
	r, err := record.Open(path)
	must(t, err)
	t.Cleanup(func() { must(t, r.Close()) })
	return r.Sessions[0]
}

// What is compared takes memory for the piece at hand, however long the answers are.
func TestAnswersStayInTheFile(t *testing.T) {
	const pieces, size = 2000, 10_000
	var all []record.Event
	piece, _ := framing.Append(nil, bytes.Repeat([]byte("x"), size-4))
	for range pieces {
		all = append(all, record.Event{Data: piece}, record.Event{Client: true, Data: []byte("more")})
	}
	for _, framer := range []frame.Framer{nil, framing} {
		c := &config{framer: framer}
		sc := scriptOf(t, c, time.Unix(0, 0), all)
		compare := comparer{framer: framer, want: newAnswers(sc)}
		defer compare.want.stop()
		if sc.answers != pieces*size || sc.sends != 4*pieces {
			t.Errorf("%d bytes are sent, %d answered", sc.sends, sc.answers)
		}
		stream := bytes.Repeat(piece, 7) // comes in other pieces than it was recorded
		for left := pieces * size; left > 0; {
			n := min(left, 3*size+5)
			at := (pieces*size - left) % size
			compare.feed(stream[at : at+n])
			left -= n
			if held := cap(compare.want.b); held > 16*size {
				t.Fatalf("%d bytes are in memory", held)
			}
		}
		compare.feed([]byte("\x00\x00\x00\x01x"))
		compare.finishExtra()
		if compare.bad != 1 || compare.first.offset != pieces*size || compare.first.what != "5 bytes more than recorded" {
			t.Errorf("%d differ, first %+v", compare.bad, compare.first)
		}
	}
}

// Sessions without a beginning and with gaps are left out, and counted.
func TestLeftOut(t *testing.T) {
	r := &record.Recording{Sessions: []*record.Session{{ID: 1}, {ID: 2, Partial: true}, withGap(t), {ID: 4, Dialed: true}}}
	c := new(config)
	all, left, err := c.scripts(r)
	if err != nil || len(all) != 1 || left != (leftOut{partial: 1, gaps: 1, dialed: 1}) {
		t.Errorf("%d scripts, %v, %v", len(all), left, err)
	}
	if got := left.String(); got != "1 without a beginning, 1 with gaps, 1 that the recorded program has dialed" {
		t.Error(got)
	}
	c.sessions = []uint64{4}
	if all, left, err = c.scripts(r); err != nil || len(all) != 1 || left != (leftOut{}) {
		t.Errorf("%d scripts, %v, %v", len(all), left, err)
	}
}

// A replay keeps the pace: what took 300 ms takes 150 at twice the speed.
func TestSpeed(t *testing.T) {
	all := []record.Event{
		{At: time.Unix(0, 0), Client: true, Data: []byte("\x00\x00\x00\x02\x01\x01")},
		{At: time.Unix(0, 300_000_000), Client: true, Data: []byte("\x00\x00\x00\x02\x01\x01")},
	}
	c := &config{addr: game(t, nil), network: "tcp", speed: 2, wait: time.Second}
	c.address = c.addr
	sc := scriptOf(t, c, time.Unix(0, 0), all)
	p := player{config: c, script: sc, report: newReport(c, []*script{sc}, leftOut{}), began: time.Now()}
	p.play(t.Context())
	if took := time.Since(p.began); took < 150*time.Millisecond {
		t.Errorf("it took %v, want 150 ms at least", took)
	}
}

// An end that was asked for by a signal is no result.
func TestInterrupted(t *testing.T) {
	path := recorded(t, 2)
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("a signal"))
	var out, said bytes.Buffer
	if code := run(ctx, []string{path, "-addr", game(t, nil)}, &out, &said); code != exitFault {
		t.Errorf("exit code %d\n%s%s", code, &out, &said)
	}
}
