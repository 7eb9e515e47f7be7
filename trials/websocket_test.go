//go:build linux

package trials

import (
	"bufio"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/servercore-go/servercore/engine"
	"github.com/servercore-go/servercore/internal/wsconn"
	"github.com/servercore-go/servercore/layer/websocket"
)

// overWebSocket begins an address whose server speaks WebSocket. With TLS it stands behind overTLS.
const overWebSocket = "ws:"

// upgrade begins WebSocket on a connection, within its dialer's time.
func (c *client) upgrade(within time.Duration) error {
	var wire net.Conn = c.TCPConn
	if secure, ok := c.over.(*tls.Conn); ok {
		wire = secure
	}
	_ = c.SetDeadline(time.Now().Add(within))
	over, err := wsconn.Client(wire, websocket.Options{}, "ws://trials/", nil)
	if err != nil {
		_ = c.Close()
		return err
	}
	c.over = over
	return c.SetDeadline(time.Time{})
}

// upgradeRequest is a client's request, with more header lines, each with its CR and LF, at its end.
func upgradeRequest(lines string) string {
	return "GET / HTTP/1.1\r\nHost: trials\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n" +
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" + lines + "\r\n"
}

// rough is a WebSocket client that sends what it likes. It shares no code with the engine.
type rough struct {
	*net.TCPConn
	from *bufio.Reader
}

// roughly makes a connection to an address that begins with overWebSocket, and upgrades it.
func roughly(t *testing.T, address string, receive int, lines string) rough {
	t.Helper()
	d := dialer(receive)
	conn, err := d.Dial("tcp", strings.TrimPrefix(address, overWebSocket))
	must(t, err)
	r := rough{conn.(*net.TCPConn), bufio.NewReaderSize(conn, 1<<10)}
	_ = r.SetDeadline(time.Now().Add(patience + 2*time.Minute))
	must(t, r.upgrade(lines))
	return r
}

// upgrade makes the upgrade.
func (r rough) upgrade(lines string) error {
	if _, err := io.WriteString(r, upgradeRequest(lines)); err != nil {
		return err
	}
	for first := true; ; first = false {
		line, err := r.from.ReadString('\n')
		switch {
		case err != nil:
			return err
		case first && !strings.HasPrefix(line, "HTTP/1.1 101 "):
			return fmt.Errorf("the server answers the upgrade with %q", line)
		case line == "\r\n":
			return nil
		}
	}
}

// frameHeader returns the header of a client's frame that announces n bytes; first is its first byte. The mask is zeros.
func frameHeader(first byte, n uint64) []byte {
	b := binary.BigEndian.AppendUint64([]byte{first, 0xff}, n)
	switch {
	case n < 126:
		b = []byte{first, 0x80 | byte(n)}
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16([]byte{first, 0x80 | 126}, uint16(n))
	}
	return append(b, 0, 0, 0, 0)
}

// next reads a frame of the server's.
func (r rough) next() (first byte, payload []byte, err error) {
	var header [8]byte
	if _, err = io.ReadFull(r.from, header[:2]); err != nil {
		return 0, nil, err
	}
	first = header[0]
	n := uint64(header[1])
	switch n {
	case 126:
		_, err = io.ReadFull(r.from, header[:2])
		n = uint64(binary.BigEndian.Uint16(header[:]))
	case 127:
		_, err = io.ReadFull(r.from, header[:8])
		n = binary.BigEndian.Uint64(header[:])
	}
	if n > 1<<20 {
		return first, nil, fmt.Errorf("a frame of %d bytes", n)
	}
	if err == nil {
		payload = make([]byte, n)
		_, err = io.ReadFull(r.from, payload)
	}
	return first, payload, err
}

// end reads until the server's close frame, and returns its code: 0 if there was none, and what other frames there were.
func (r rough) end() (code int, others int) {
	for {
		first, payload, err := r.next()
		switch {
		case err != nil:
			return 0, others
		case first == 0x88 && len(payload) >= 2:
			return int(binary.BigEndian.Uint16(payload)), others
		case first == 0x88:
			return 1005, others // RFC 6455, section 7.4.1: a close frame without a code
		}
		others++
	}
}

// handshakesAllowed is the server's HandshakeTimeout in T43.
func handshakesAllowed() time.Duration { return lasting(20*time.Second, 2*time.Second) }

const maxMessage = 256 << 10 // bytes, of the trials of WebSocket

func init() {
	for _, name := range []string{"T43", "T44", "T45", "T46", "T47", "T48"} {
		plans[name] = func() plan {
			o := engine.Options{LingerTimeout: 300 * time.Millisecond}
			switch name {
			case "T43":
				o.HandshakeTimeout = handshakesAllowed()
			case "T46":
				o.WriteTimeout = stallAllowed()
			}
			return plan{ws: &engine.WebSocketOptions{MaxMessage: maxMessage, Compression: name == "T47", PingInterval: -1}, thrift: true, options: o}
		}
	}
}

// span is the shortest and the longest of durations, for several goroutines.
type span struct {
	mu          sync.Mutex
	least, most time.Duration
	n           int
}

func (s *span) add(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.n++; s.n == 1 || d < s.least {
		s.least = d
	}
	s.most = max(s.most, d)
}

// dribble sends the text a byte at a time until the server ends the connection, and then the other one again and again if it is not empty.
// It returns what the server said.
func dribble(c net.Conn, text, repeated string, pause time.Duration) (said string) {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		b, _ := io.ReadAll(c)
		said = string(b)
	}()
	for ; ; text = repeated {
		for i := range len(text) {
			select {
			case <-ended:
				return said
			case <-time.After(pause):
				_, _ = c.Write([]byte{text[i]})
			}
		}
		if repeated == "" {
			<-ended
			return said
		}
	}
}

// T43: thousands of clients that send their upgrade a byte at a time, or its lines without end, or stop in the midst of it: each ends at
// HandshakeTimeout, or when its header is too long, and costs some hundred bytes and no goroutine meanwhile.
func TestT43SlowUpgrades(t *testing.T) {
	o := begin(t, "T43", how{})
	address := strings.TrimPrefix(o.at.Records, overWebSocket)
	n := scaled(5000, 600) / 3 * 3
	allowed := handshakesAllowed()
	base, before := o.forgetPeak(), o.report()
	var wrong atomic.Int64
	var took span
	var load sync.WaitGroup
	whole := upgradeRequest("")
	began := time.Now()
	for i := range n {
		time.Sleep(time.Until(began.Add(time.Duration(i) * time.Second / 2000)))
		c, err := net.DialTimeout("tcp", address, patience)
		must(t, err)
		_ = c.SetDeadline(time.Now().Add(allowed + patience))
		load.Go(func() {
			defer c.Close()
			at := time.Now()
			var said string
			switch i % 3 {
			case 0: // a byte at a time: it would take twice the time
				said = dribble(c, whole, "", 2*allowed/time.Duration(len(whole)))
			case 1: // stops in the midst of a line
				_, _ = io.WriteString(c, whole[:len(whole)/2])
				_, _ = io.Copy(io.Discard, c)
			case 2: // lines without end, of which 16 KiB are too many
				said = dribble(c, strings.TrimSuffix(whole, "\r\n"), "A: b\r\n", allowed/200)
			}
			if said != "" && !strings.HasPrefix(said, "HTTP/1.1 408 ") {
				wrong.Add(1)
			}
			took.add(time.Since(at))
		})
	}
	var r report
	eventually(allowed/2, func() bool { r = o.report(); return r.Stats.Sessions >= bystanders+n*9/10 })
	o.check("no goroutine for them", r.Goroutines <= before.Goroutines+5, "%d goroutines, %d before, %d connections", r.Goroutines, before.Goroutines,
		r.Stats.Sessions)
	o.check("no session of them", r.Live == bystanders, "%d sessions", r.Live)
	load.Wait()
	o.check("each ends at HandshakeTimeout +-10 %", wrong.Load() == 0 && took.least > allowed*9/10 && took.most < allowed+within(allowed/10),
		"%d, after %v to %v of %v; %d wrong answers", took.n, round(took.least), round(took.most), allowed, wrong.Load())
	bound := n*2<<10 + 4<<20
	grown, ok := o.grownTo(base, bound)
	o.check("RSS growth <= 2 KiB each, 4 MiB", ok, "%s of %s", size(grown), size(bound))
	eventually(patience, func() bool { r = o.report(); return r.Stats.Refused.HandshakeLate >= uint64(n) })
	o.check("each counted once", r.Stats.Refused.HandshakeLate == uint64(n) && r.Stats.Refused.Handshake == 0, "%d of %d late, %d failed",
		r.Stats.Refused.HandshakeLate, n, r.Stats.Refused.Handshake)
	o.finish()
}

// pour writes pieces until a write fails or there is no more, and returns the bytes written.
func pour(c net.Conn, most int, piece []byte) (n int) {
	for n < most {
		k, err := c.Write(piece[:min(len(piece), most-n)])
		if n += k; err != nil {
			return n
		}
	}
	return n
}

// T44: a message that is announced with 1 GiB is refused with 1009 at its header, one whose fragments come to more than MaxMessage at the
// header that passes it; what was sent of it is thrown away and not held.
func TestT44HugeMessages(t *testing.T) {
	o := begin(t, "T44", how{})
	n, atOnce := scaled(1000, 100), 20
	base := o.forgetPeak()
	var refused, wrong, poured atomic.Int64
	piece := make([]byte, 64<<10)
	each(n, atOnce, func(i int) {
		c := roughly(t, o.at.Records, 0, "")
		defer c.Close()
		go func() {
			switch i % 4 {
			case 0:
				_, _ = c.Write(frameHeader(0x82, 1<<30))
			case 1:
				_, _ = c.Write(frameHeader(0x82, 1<<62))
			case 2: // as much as is allowed, and a byte
				_, _ = c.Write(frameHeader(0x02, maxMessage))
				pour(c, maxMessage, piece)
				_, _ = c.Write(frameHeader(0x80, 1))
			case 3: // fragments without end
				_, _ = c.Write(frameHeader(0x02, 0))
				for fragment := append(frameHeader(0x00, 8<<10), piece[:8<<10]...); ; {
					k, err := c.Write(fragment)
					if poured.Add(int64(k)); err != nil {
						return
					}
				}
			}
			poured.Add(int64(pour(c, 1<<30, piece)))
		}()
		if code, others := c.end(); code != 1009 || others > 0 {
			wrong.Add(1)
			t.Errorf("connection %d of kind %d: close code %d after %d other frames", i, i%4, code, others)
		} else {
			refused.Add(1)
		}
	})
	o.check("refused with 1009", wrong.Load() == 0 && int(refused.Load()) == n, "%d of %d, %s were sent", refused.Load(), n, size(poured.Load()))
	bound := atOnce*2*maxMessage + 6<<20 // half of them hold what is allowed, in buffers of the next power of two
	grown, ok := o.grownTo(base, bound)
	o.check("RSS growth <= 2 MaxMessage for each of 20 at once, 6 MiB", ok, "%s of %s", size(grown), size(bound))
	o.finish()
}

// T45: a message with a million empty fragments, and one of a byte in each, arrive whole, and what is held is what has come of the message.
func TestT45EmptyContinuations(t *testing.T) {
	o := begin(t, "T45", how{})
	frames := scaled(1_000_000, 100_000)
	base := o.forgetPeak()
	empty := frameHeader(0x00, 0)
	var block []byte
	for len(block) < 64<<10 {
		block = append(block, empty...)
	}
	whole := 0
	began := time.Now()
	clients := []*client{o.connect(), o.connect()}
	for i, c := range clients {
		payload := make([]byte, 20<<10)
		payload[0] = verbEcho
		record := c.out.add(nil, payload)
		c.sent += int64(len(record))
		_, err := c.TCPConn.Write(append(frameHeader(0x02, 8), record[:8]...))
		must(t, err)
		rest := record[8:]
		if i == 0 {
			pour(c.TCPConn, frames*len(empty), block)
		} else {
			var pieces []byte
			for _, b := range rest {
				pieces = append(append(append(pieces, frameHeader(0x00, 1)...), b), empty...)
			}
			_, err := c.TCPConn.Write(pieces)
			must(t, err)
			rest = nil
		}
		_, err = c.TCPConn.Write(append(frameHeader(0x80, uint64(len(rest))), rest...))
		must(t, err)
		if c.take(make([]byte, 64<<10), nil, func() bool { return c.in.seq == 1 }) == nil {
			whole++
		}
	}
	o.check("each arrives as one message", whole == len(clients), "%d of %d, %d frames in %v", whole, len(clients), frames, round(time.Since(began)))
	for _, c := range clients {
		must(t, c.CloseWrite())
		must(t, c.takeAll())
		l := o.ended(c, patience)
		o.check("one OnRecv", l.Recvs == 1, "%d", l.Recvs)
	}
	grown, ok := o.grownTo(base, 4<<20)
	o.check("RSS growth <= 4 MiB", ok, "%s", size(grown))
	o.finish()
}
