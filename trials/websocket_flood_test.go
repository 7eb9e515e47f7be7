//go:build linux

package trials

import (
	"bytes"
	"compress/flate"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// stallAllowed is the server's WriteTimeout in T46.
func stallAllowed() time.Duration { return lasting(10*time.Second, 2*time.Second) }

// T46: clients that send pings of 125 bytes as fast as they can. Those that read their pongs are served after it; those that do not read are
// ended by WriteTimeout, and hold next to nothing until then.
func TestT46PingFloods(t *testing.T) {
	o := begin(t, "T46", how{})
	n, lasts := 20, lasting(20*time.Second, 1500*time.Millisecond)
	base := o.forgetPeak()
	var block []byte
	for i := range 500 {
		payload := bytes.Repeat([]byte{byte(i)}, 125)
		block = append(append(block, frameHeader(0x89, 125)...), payload...)
	}
	var pings, pongs, wrong, served, stalled atomic.Int64
	var took span
	var load sync.WaitGroup
	for i := range 2 * n {
		reads := i < n
		c := o.dialRough(4<<10, "")
		load.Go(func() {
			defer c.Close()
			until := time.Now().Add(lasts)
			if !reads {
				began := time.Now()
				for { // until the server resets the connection
					k, err := c.Write(block)
					pings.Add(int64(k / 131))
					if err != nil {
						if !isTimeout(err) {
							stalled.Add(1)
						}
						took.add(time.Since(began))
						return
					}
				}
			}
			go func() {
				for time.Now().Before(until) {
					k, err := c.Write(block)
					pings.Add(int64(k / 131))
					if err != nil {
						return
					}
				}
				_, _ = c.Write(append(frameHeader(0x89, 4), "last"...))
			}()
			for {
				first, payload, err := c.next()
				switch {
				case err != nil || first != 0x8a:
					wrong.Add(1)
					return
				case string(payload) == "last":
					served.Add(1)
					return
				}
				pongs.Add(1)
			}
		})
	}
	load.Wait()
	o.check("the last ping is answered", int(served.Load()) == n && wrong.Load() == 0, "%d of %d; %d pings, %d pongs", served.Load(), n, pings.Load(), pongs.Load())
	allowed := stallAllowed()
	o.check("those that do not read end by WriteTimeout", int(stalled.Load()) == n && took.most < allowed+lasts+within(allowed),
		"%d of %d, the last after %v of %v", stalled.Load(), n, round(took.most), allowed)
	bound := 2*n*16<<10 + 4<<20
	grown, ok := o.grownTo(base, bound)
	o.check("RSS growth <= 16 KiB each, 4 MiB", ok, "%s of %s", size(grown), size(bound))
	o.finish()
}

// dialRough is roughly for the listener of records.
func (o *oracle) dialRough(receive int, lines string) rough {
	o.t.Helper()
	return roughly(o.t, o.at.Records, receive, lines)
}

// deflateOffer is the header line of a client that offers permessage-deflate.
const deflateOffer = "Sec-WebSocket-Extensions: permessage-deflate\r\n"

// deflateZeros returns n zeros as a message of RFC 7692: without the end of the last block.
func deflateZeros(t *testing.T, n int) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, 9)
	must(t, err)
	zeros := make([]byte, 64<<10)
	for ; n > 0; n -= len(zeros) {
		_, err = w.Write(zeros[:min(n, len(zeros))])
		must(t, err)
	}
	must(t, w.Flush())
	return bytes.TrimSuffix(b.Bytes(), []byte{0, 0, 0xff, 0xff})
}

// T47: messages that inflate to a thousand times their size, and to more than MaxMessage, are refused with 1009 while they inflate; one with
// blocks that hold nothing is refused, too. What is held is the message as it came and MaxMessage.
func TestT47CompressionBombs(t *testing.T) {
	o := begin(t, "T47", how{})
	n, atOnce := scaled(1000, 100), 20
	small, large := deflateZeros(t, maxMessage+1), deflateZeros(t, 200<<20)
	most := maxMessage + maxMessage/8
	large = large[:min(len(large), most)]
	finals := bytes.Repeat([]byte{0x03, 0x00}, most/2-1) // final blocks, each empty
	bombs := []struct {
		name string
		wire []byte
		code int
	}{
		{"a byte more than MaxMessage", append(frameHeader(0xc2, uint64(len(small))), small...), 1009},
		{"200 MiB", append(frameHeader(0xc2, uint64(len(large))), large...), 1009},
		{"200 MiB in fragments", fragments(large, 4000), 1009},
		{"empty final blocks", append(frameHeader(0xc2, uint64(len(finals))), finals...), 1007},
		{"longer than MaxMessage before it inflates", frameHeader(0xc2, 1<<30), 1009},
	}
	base := o.forgetPeak()
	var refused atomic.Int64
	each(n, atOnce, func(i int) {
		b := bombs[i%len(bombs)]
		c := o.dialRough(0, deflateOffer)
		defer c.Close()
		go func() { _, _ = c.Write(b.wire) }()
		if code, others := c.end(); code != b.code || others > 0 {
			t.Errorf("%s: close code %d after %d other frames, want %d", b.name, code, others, b.code)
			return
		}
		refused.Add(1)
	})
	o.check("refused with 1009 or 1007", int(refused.Load()) == n, "%d of %d; %d bytes that would be 200 MiB", refused.Load(), n, len(large))
	bound := atOnce*2*maxMessage + 8<<20 // the messages as they come; one inflates on each loop
	grown, ok := o.grownTo(base, bound)
	o.check("RSS growth <= 2 MaxMessage for each of 20 at once, 8 MiB", ok, "%s of %s", size(grown), size(bound))
	o.finish()
}

// fragments returns a compressed message in frames of n bytes.
func fragments(message []byte, n int) (wire []byte) {
	for first := byte(0x42); ; first = 0x00 {
		piece := message[:min(n, len(message))]
		if message = message[len(piece):]; len(message) == 0 {
			first |= 0x80
		}
		wire = append(append(wire, frameHeader(first, uint64(len(piece)))...), piece...)
		if len(message) == 0 {
			return wire
		}
	}
}

// An offence is one way to break the protocol. It is made after the upgrade, or in place of it if status is set.
type offence struct {
	name   string
	wire   string
	code   int
	status string
}

var offences = []offence{
	{name: "not masked", wire: "\x82\x05hello", code: 1002},
	{name: "a reserved bit", wire: "\xa2\x80\x00\x00\x00\x00", code: 1002},
	{name: "compressed without having agreed", wire: "\xc2\x80\x00\x00\x00\x00", code: 1002},
	{name: "a reserved opcode", wire: "\x83\x80\x00\x00\x00\x00", code: 1002},
	{name: "a ping in fragments", wire: "\x09\x80\x00\x00\x00\x00", code: 1002},
	{name: "a ping of 126 bytes", wire: "\x89\xfe\x00\x7e", code: 1002},
	{name: "a continuation of nothing", wire: "\x80\x80\x00\x00\x00\x00", code: 1002},
	{name: "a length below zero", wire: "\x82\xff\xff\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x00", code: 1002},
	{name: "text that is not UTF-8", wire: "\x81\x82\x00\x00\x00\x00\xc0\x80", code: 1007},
	{name: "a close frame of a byte", wire: "\x88\x81\x00\x00\x00\x00x", code: 1002},
	{name: "a close code that may not be sent", wire: "\x88\x82\x00\x00\x00\x00\x03\xed", code: 1002},
	{name: "HTTP in place of frames", wire: "GET / HTTP/1.1\r\n\r\n", code: 1002},
	{name: "a ClientHello", wire: "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", status: "HTTP/1.1 400 "},
	{name: "zeros", wire: strings.Repeat("\x00", 100), status: "HTTP/1.1 400 "},
	{name: "a header that is too long", wire: "GET / HTTP/1.1\r\nA: " + strings.Repeat("b", 64<<10), status: "HTTP/1.1 431 "},
	{name: "no upgrade", wire: "GET / HTTP/1.1\r\nHost: x\r\n\r\n", status: "HTTP/1.1 426 "},
	{name: "no key", wire: strings.Replace(upgradeRequest(""), "Sec-WebSocket-Key", "X-Key", 1), status: "HTTP/1.1 400 "},
	{name: "a malformed request", wire: "GET /\r\n\r\n", status: "HTTP/1.1 400 "},
}

// T48: frames that are not masked, or against the protocol otherwise, and garbage: each is told what was wrong, by a close code or an HTTP
// status, and costs itself only.
func TestT48Garbage(t *testing.T) {
	o := begin(t, "T48", how{})
	n, atOnce := scaled(20_000, 1000), 50
	base := o.forgetPeak()
	var told, garbage, closed, atTheDoor atomic.Int64
	address := strings.TrimPrefix(o.at.Records, overWebSocket)
	offend := func(i int) {
		if i%20 == 0 {
			c := o.dialRough(0, "")
			defer c.Close()
			garbage.Add(1)
			go func() {
				random, b := rand.NewChaCha8([32]byte{byte(i), byte(i >> 8)}), make([]byte, 8<<10)
				for range 200 {
					_, _ = random.Read(b)
					if _, err := c.Write(b); err != nil {
						return
					}
				}
				_ = c.CloseWrite()
			}()
			if code, _ := c.end(); code != 0 { // mostly 1002; a frame may be a message that is no record
				closed.Add(1)
			}
			return
		}
		a := offences[i%len(offences)]
		if a.status != "" {
			atTheDoor.Add(1)
			c, err := net.DialTimeout("tcp", address, patience)
			must(t, err)
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(patience))
			go func() { _, _ = io.WriteString(c, a.wire) }()
			said, err := io.ReadAll(c)
			if !strings.HasPrefix(string(said), a.status) {
				t.Errorf("%s: %v, answer %.60q, want %q", a.name, err, said, a.status)
				return
			}
			told.Add(1)
			return
		}
		c := o.dialRough(0, "")
		defer c.Close()
		_, err := io.WriteString(c, a.wire)
		must(t, err)
		if code, others := c.end(); code != a.code || others > 0 {
			t.Errorf("%s: close code %d after %d other frames, want %d", a.name, code, others, a.code)
			return
		}
		told.Add(1)
	}
	for from := 0; from < n; from += 1000 {
		each(min(1000, n-from), atOnce, func(i int) { offend(from + i) })
		o.report() // the server need not keep the records of all who left
	}
	o.check("each is told what was wrong", int(told.Load()+garbage.Load()) == n, "%d of %d", told.Load(), n-int(garbage.Load()))
	o.check("random bytes end with a close code", closed.Load() == garbage.Load(), "%d of %d", closed.Load(), garbage.Load())
	var r report
	eventually(patience, func() bool { r = o.report(); return r.Stats.Refused.Handshake >= uint64(atTheDoor.Load()) })
	o.check("refused upgrades counted once", r.Stats.Refused.Handshake == uint64(atTheDoor.Load()), "%d of %d", r.Stats.Refused.Handshake, atTheDoor.Load())
	grown, ok := o.grownTo(base, 12<<20)
	o.check("RSS growth <= 12 MiB", ok, "%s", size(grown))
	o.finish()
}
