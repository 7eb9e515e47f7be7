package enginetest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/servercore-go/servercore/engine"
	kit "github.com/servercore-go/servercore/internal/enginekit"
	"github.com/servercore-go/servercore/pool"
	"github.com/servercore-go/servercore/session"
)

// sending is chapter 4 of the contract.
var sending = []promise{
	{"S1", "concurrent senders do not interleave, and each keeps its order", 0, sendersDoNotInterleave},
	{"S2", "what is queued leaves in as few writes as the kernel allows", plain, gathering},
	{"S3", "a Send inside a callback wakes nobody", 0, noWakeUpInsideCallbacks},
	{"S3", "Sends from elsewhere wake each loop once", 0, oneWakeUpPerLoop},
	{"S4", "OnSend tells exactly what was accepted and read", 0, onSendIsExact},
	{"S5", "a Send over SendLimit is refused whole", counted, refusedWhole},
	{"S5", "a slow peer holds no more than SendLimit", 0, slowPeerHoldsNoMoreThanTheLimit},
	{"S5", "EndSession ends the session that passes SendLimit", counted | resets, endSession},
	{"S6", "a write without progress ends the session with a reset", resets, writeStall},
	{"S8", "what was accepted is sent, pending or dropped", 0, accounting},
}

// Each sender numbers its messages; a message is filled with its sender's letter.
func sendersDoNotInterleave(t testing.TB, v *Variant) {
	s := v.serve(t, engine.Options{SendLimit: -1}, kit.Hooks{})
	c, p := s.session(s.smallClient())
	const senders, messages, head = 8, 200, 5 // sender, number, length
	var sending sync.WaitGroup
	for id := range byte(senders) {
		sending.Go(func() {
			random := rand.New(rand.NewPCG(1, uint64(id)))
			for n := range uint16(messages) {
				m := make([]byte, head+random.IntN(5000))
				m[0] = id
				binary.BigEndian.PutUint16(m[1:], n)
				binary.BigEndian.PutUint16(m[3:], uint16(len(m)-head))
				for i := head; i < len(m); i++ {
					m[i] = 'A' + id
				}
				var err error
				if n%3 == 0 {
					b := pool.Get()
					b.B = append(b.B, m...)
					err = p.SendBuffer(b)
				} else {
					err = p.Send(m)
				}
				if clear(m); err != nil { // it was copied
					t.Error(err)
				}
			}
		})
	}
	var next [senders]uint16
	for range senders * messages {
		var h [head]byte
		if _, err := io.ReadFull(c, h[:]); err != nil {
			t.Fatal(err)
		}
		id, n := h[0], binary.BigEndian.Uint16(h[1:])
		if id >= senders || n != next[id] {
			t.Fatalf("sender %d, message %d: out of order", id, n)
		}
		next[id]++
		body := make([]byte, binary.BigEndian.Uint16(h[3:]))
		if _, err := io.ReadFull(c, body); err != nil {
			t.Fatal(err)
		}
		for i, b := range body {
			if b != 'A'+id {
				t.Fatalf("sender %d, message %d: byte %d is %q", id, n, i, b)
			}
		}
	}
	sending.Wait()
}

func gathering(t testing.TB, v *Variant) {
	writes := make(chan int, 100)
	s := v.serve(t, engine.Options{}, kit.Hooks{Sent: func(_ *kit.Session, n int) { writes <- n }})
	c, p := s.connect()
	buffers := func(n int) {
		for range n {
			b := pool.Get()
			b.B = append(b.B, "8 bytes."...)
			kit.Must(t, p.SendBuffer(b))
		}
	}
	for _, tt := range []struct {
		name string
		send func()
		want []int
	}{
		{"many small ones", func() {
			for range 1000 {
				kit.Must(t, p.Send([]byte("8 bytes.")))
			}
		}, []int{8000}},
		{"as many buffers as one write takes", func() { buffers(1024) }, []int{8192}},
		{"more", func() { buffers(1500) }, []int{8192, 3808}},
		{"both, and empty ones", func() {
			kit.Must(t, p.Send(nil))
			kit.Must(t, p.SendBuffer(pool.Get()))
			kit.Must(t, p.Send(kit.Stream()[:30_000]))
			buffers(100)
			kit.Must(t, p.Send(kit.Stream()[:30_000]))
		}, []int{60_800}},
	} {
		for _, place := range []string{"a callback", "elsewhere"} {
			before := s.Stats().Total.Writes
			if place == "a callback" {
				p.Run(t, tt.send)
			} else {
				release := p.Hold(t)
				tt.send()
				release()
			}
			sum := 0
			for i, want := range tt.want {
				if got := kit.Await(t, writes, "OnSend"); got != want {
					t.Errorf("%s, from %s: write %d took %d bytes, want %d", tt.name, place, i, got, want)
				}
				sum += want
			}
			if _, err := io.CopyN(io.Discard, c, int64(sum)); err != nil {
				t.Fatal(err)
			}
			p.Run(t, func() {})
			if n := s.Stats().Total.Writes - before; n != uint64(len(tt.want)) {
				t.Errorf("%s, from %s: %d writes, want %d", tt.name, place, n, len(tt.want))
			}
		}
	}
}

func noWakeUpInsideCallbacks(t testing.TB, v *Variant) {
	s := v.serve(t, engine.Options{}, kit.Hooks{Recv: func(p *kit.Session, data []byte) {
		for _, b := range data {
			_ = p.Send([]byte{b})
		}
	}})
	var clients []net.Conn
	for range 8 {
		c, _ := s.connect()
		clients = append(clients, c)
	}
	before := s.Stats().Total.WakeUps
	for range 50 {
		for _, c := range clients {
			kit.Exchange(t, c, "hello")
		}
	}
	if n := s.Stats().Total.WakeUps - before; n != 0 {
		t.Errorf("%d wake-ups for sends inside callbacks, want none", n)
	}
}

func oneWakeUpPerLoop(t testing.TB, v *Variant) {
	s := v.serve(t, engine.Options{}, kit.Hooks{})
	const clients, messages = 16, 500
	var conns []net.Conn
	var peers []*kit.Session
	for range clients {
		c, p := s.connect()
		conns, peers = append(conns, c), append(peers, p)
	}
	// New connections go where there are fewest, so the first ones are on different loops.
	var held []func()
	for _, p := range peers[:v.Loops] {
		held = append(held, p.Hold(t))
	}
	before := s.Stats().Total.WakeUps
	var sending sync.WaitGroup
	for _, p := range peers {
		sending.Go(func() {
			for range messages {
				if err := p.Send([]byte("8 bytes.")); err != nil {
					t.Error(err)
				}
			}
		})
	}
	sending.Wait()
	if n := s.Stats().Total.WakeUps - before; n > uint64(v.Loops) {
		t.Errorf("%d wake-ups for %d messages to %d sessions on %d v.Loops", n, clients*messages, clients, v.Loops)
	}
	for _, release := range held {
		release()
	}
	for _, c := range conns {
		if _, err := io.CopyN(io.Discard, c, 8*messages); err != nil {
			t.Fatal(err)
		}
	}
}

func onSendIsExact(t testing.TB, v *Variant) {
	s := v.serve(t, engine.Options{SendLimit: -1}, kit.Hooks{})
	random := rand.New(rand.NewPCG(2, 3))
	type pair struct {
		p        *kit.Session
		accepted int
		read     chan error
	}
	var pairs []pair
	for range 4 {
		c, p := s.session(s.smallClient())
		total := 3<<20 + random.IntN(1<<20)
		read := make(chan error, 1)
		go func() {
			read <- kit.ReadAll(c, kit.Stream()[:total])
			_ = c.Close()
		}()
		for off := 0; off < total; {
			n := min(1+random.IntN(40_000), total-off)
			kit.Must(t, p.Send(kit.Stream()[off:off+n]))
			off += n
		}
		p.Disconnect()
		pairs = append(pairs, pair{p, total, read})
	}
	for _, x := range pairs {
		kit.Must(t, kit.Await(t, x.read, "the client has read everything"))
		kit.Await(t, x.p.Ended, "OnDisconnected")
		if sent := x.p.Sent.Load(); sent != int64(x.accepted) {
			t.Errorf("OnSend told of %d bytes, %d were accepted and read", sent, x.accepted)
		}
	}
	if st := s.Stats().Total; st.BytesDropped != 0 {
		t.Errorf("%d bytes dropped", st.BytesDropped)
	}
}

func refusedWhole(t testing.TB, v *Variant) {
	const limit = 100_000
	s := v.serve(t, engine.Options{SendLimit: limit + 2*v.header()}, kit.Hooks{}) // for two messages
	c, p := s.connect()
	p.Run(t, func() { // nothing leaves meanwhile
		kit.Must(t, p.Send(kit.Stream()[:limit-10]))
		kit.WantError(t, "Send of 11 where 10 fit", p.Send(kit.Stream()[:11]), session.ErrSendLimit)
		b := pool.Get()
		b.B = append(b.B, kit.Stream()[:11]...)
		kit.WantError(t, "SendBuffer of 11 where 10 fit", p.SendBuffer(b), session.ErrSendLimit)
		if n := p.Pending(); n != limit-10 {
			t.Errorf("%d bytes pending after a refusal, want %d", n, limit-10)
		}
		kit.Must(t, p.Send(kit.Stream()[limit-10:limit]))
		kit.WantError(t, "Send of 1 where none fits", p.Send([]byte{1}), session.ErrSendLimit)
		if v.Framed || v.Messages { // an empty packet is a packet
			kit.WantError(t, "Send of nothing where none fits", p.Send(nil), session.ErrSendLimit)
		} else {
			kit.Must(t, p.Send(nil))
		}
	})
	if err := p.Err(); err != nil {
		t.Errorf("the session ends: %v", err)
	}
	p.Disconnect()
	kit.Must(t, kit.ReadAll(c, kit.Stream()[:limit]))
}

func slowPeerHoldsNoMoreThanTheLimit(t testing.TB, v *Variant) {
	const limit = 256 << 10
	s := v.serve(t, engine.Options{SendLimit: limit}, kit.Hooks{})
	c, p := s.session(s.smallClient())
	accepted := 0
	for full := 0; full < 100; { // full for good, not only for the moment
		n := min(1000, len(kit.Stream())-accepted)
		switch err := p.Send(kit.Stream()[accepted : accepted+n]); {
		case err == nil:
			accepted += n
		case errors.Is(err, session.ErrSendLimit):
			full++
			p.Run(t, func() {})
		default:
			t.Fatal(err)
		}
		if n := p.Pending(); n > limit {
			t.Fatalf("%d bytes pending, the limit is %d", n, limit)
		}
	}
	p.Disconnect()
	kit.Must(t, kit.ReadAll(c, kit.Stream()[:accepted])) // what was refused is not in it
}

func endSession(t testing.TB, v *Variant) {
	s := v.serve(t, engine.Options{SendLimit: 100_000 + v.header(), SlowPeer: engine.EndSession}, kit.Hooks{Recv: kit.Echo})
	bystander, _ := s.connect()
	c, p := s.connect()
	p.Run(t, func() {
		kit.Must(t, p.Send(kit.Stream()[:100_000]))
		kit.WantError(t, "Send over the limit", p.Send([]byte{1}), session.ErrSendLimit)
		kit.WantError(t, "Send after that", p.Send([]byte{1}), session.ErrClosed)
	})
	kit.Await(t, p.Ended, "OnDisconnected")
	kit.WantError(t, "reason", p.Err(), session.ErrSendLimit)
	if _, err := io.Copy(io.Discard, c); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the client sees %v, want a reset", err)
	}
	kit.Exchange(t, bystander, "hello")
	if st := s.Stats().Total; int64(st.BytesDropped)+p.Sent.Load() != 100_000 || st.Ended.SendLimit != 1 {
		t.Errorf("%+v", st)
	}
}

func writeStall(t testing.TB, v *Variant) {
	s := v.serve(t, engine.Options{WriteTimeout: 200 * time.Millisecond, SendLimit: 17 << 20}, kit.Hooks{Recv: kit.Echo})
	bystander, _ := s.connect()
	c, p := s.session(s.smallClient())
	kit.Must(t, p.Send(kit.Stream()[:16<<20]))
	kit.Await(t, p.Ended, "OnDisconnected")
	kit.WantError(t, "reason", p.Err(), session.ErrWriteStall)
	if _, err := io.Copy(io.Discard, c); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the client sees %v, want a reset", err)
	}
	kit.Exchange(t, bystander, "hello")
}

// Accepted by Send = sum of OnSend + Pending + dropped, while sessions live and after they have ended.
func accounting(t testing.TB, v *Variant) {
	s := v.serve(t, engine.Options{SendLimit: 2 << 20}, kit.Hooks{})
	var accepted atomic.Int64
	var peers []*kit.Session
	var conns []net.Conn
	var sending sync.WaitGroup
	for i := range 8 {
		c, p := s.session(s.smallClient())
		peers, conns = append(peers, p), append(conns, c)
		sending.Go(func() {
			random := rand.New(rand.NewPCG(4, uint64(i)))
			for range 100 {
				if m := kit.Stream()[:random.IntN(60_000)]; p.Send(m) == nil {
					accepted.Add(int64(len(m)))
				}
			}
		})
	}
	sending.Wait()
	check := func(when string) {
		t.Helper()
		balance := func() string {
			var sent, pending int64
			for _, p := range peers {
				sent, pending = sent+p.Sent.Load(), pending+int64(p.Pending())
			}
			st := s.Stats().Total
			if sent+int64(st.BytesDropped)+pending != accepted.Load() {
				return fmt.Sprintf("%d accepted, %d told by OnSend, %d dropped, %d pending", accepted.Load(), sent, st.BytesDropped, pending)
			}
			if v.traits()&plain != 0 && int64(st.BytesOut) != sent {
				return fmt.Sprintf("%d told by OnSend, %d in Stats", sent, st.BytesOut)
			}
			return ""
		}
		kit.Eventually(t, when+": the sum comes out", func() bool { return balance() == "" })
	}
	check("full")
	for _, p := range peers[:3] {
		p.Abort()
	}
	_ = conns[3].Close()
	for _, p := range peers[:4] {
		kit.Await(t, p.Ended, "OnDisconnected")
	}
	check("half of them gone")
	for i, p := range peers[4:] {
		p.Disconnect()
		go func() { _, _ = io.Copy(io.Discard, conns[4+i]); _ = conns[4+i].Close() }()
	}
	for _, p := range peers[4:] {
		kit.Await(t, p.Ended, "OnDisconnected")
	}
	check("all gone")
	if st := s.Stats().Total; st.BytesDropped == 0 || st.WouldBlock == 0 {
		t.Errorf("the test is too weak: %+v", st)
	}
}
