//go:build linux

package trials

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func init() {
	for _, name := range []string{"T18", "T19", "T20"} {
		plans[name] = func() plan { return plan{thrift: true} }
	}
}

// echoByteByByte sends records of 1 KiB byte by byte, and waits for the echo of each. wrong counts echoes that differ.
func echoByteByByte(c *client, records int, wrong *atomic.Int64) error {
	payload := make([]byte, 1<<10-headerSize)
	payload[0] = verbEcho
	for range records {
		for i := range payload[1:] {
			payload[1+i] = byte(rand.Uint32())
		}
		for _, b := range c.out.add(nil, payload) {
			if _, err := c.Write([]byte{b}); err != nil {
				return err
			}
		}
		want := c.in.seq + 1
		if err := c.take(make([]byte, 4<<10), func(got []byte) {
			if string(got) != string(payload) {
				wrong.Add(1)
			}
		}, func() bool { return c.in.seq == want }); err != nil {
			return err
		}
	}
	return nil
}

// T18: a stream that arrives byte by byte is the same stream, and costs no memory. The heap of an idle server grows to its working size;
// after that, in the second half, it does not grow.
//
// Fails if 16 bytes stay of each OnRecv: keep a list of them in callRecv of session/callback.go.
func TestT18ByteByByte(t *testing.T) {
	o := begin(t, "T18", how{})
	n, records := scaled(100, 10), 256
	if full() {
		records = 1024
	}
	var wrong atomic.Int64 // faults
	base := o.forgetPeak()
	clients := make([]*client, n)
	each(n, n, func(i int) {
		clients[i] = o.connect()
		seconds(t, time.Hour, clients[i])
		if echoByteByByte(clients[i], records/2, &wrong) != nil {
			wrong.Add(1)
		}
	})
	half, _ := o.grownTo(base, 0)
	each(n, n, func(i int) {
		if echoByteByByte(clients[i], records-records/2, &wrong) != nil {
			wrong.Add(1)
		}
	})
	grown, small := o.grownTo(base, 2<<20) // before a report
	each(n, n, func(i int) {
		_ = clients[i].CloseWrite()
		_ = clients[i].takeAll()
	})
	o.liveAt(bystanders, patience)
	o.report()
	recvs, bytes := 0, 0
	for _, c := range o.clients {
		l := o.lives[c.out.id]
		recvs, bytes = recvs+l.Recvs, bytes+int(l.Received)
		if l.Recvs > int(l.Received) || int(l.Received) != records<<10 {
			wrong.Add(1)
		}
	}
	o.check("exact content, <= 1 OnRecv per byte", wrong.Load() == 0, "%d bytes in %d OnRecv, %d faults", bytes, recvs, wrong.Load())
	o.check("no growth", small, "RSS %+.2f MiB, want 2 at most", float64(grown)/(1<<20))
	o.check("none in the second half", grown-half <= 512<<10 || racing(), "RSS %+.2f MiB, want 0.5 at most", float64(grown-half)/(1<<20))
	o.finish()
}

// flood writes until a write fails, or to the end, and returns how many bytes were taken.
func flood(c net.Conn, total int, chunk func() []byte) (sent int) {
	for sent < total {
		n, err := c.Write(chunk())
		if sent += n; err != nil {
			return sent
		}
	}
	return sent
}

// T19: a packet whose header exceeds the maximum ends its session at once; its body is not read.
func TestT19HugeFrame(t *testing.T) {
	o := begin(t, "T19", how{})
	const n = 10
	base, before := o.forgetPeak(), o.report().Stats.Total
	body := make([]byte, 1<<20)
	var sent atomic.Int64
	each(n, n, func(int) {
		c, err := net.Dial("tcp", o.at.Length)
		must(t, err)
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(patience))
		_, _ = c.Write([]byte{0xff, 0xff, 0xff, 0xff})
		sent.Add(int64(flood(c, scaled(1<<30, 100<<20), func() []byte { return body })))
	})
	r, ok := o.settledAt(0, patience)
	refused := 0
	for _, l := range o.silent {
		if strings.Contains(l.Err, "too large") && l.Received == 0 {
			refused++
		}
	}
	in := r.Stats.Total.BytesIn - before.BytesIn
	o.check("closed on the header", ok && refused == n && in <= n*128<<10+1<<20, "%d of %d refused; of %s sent %s were read, those of the bystanders included",
		refused, n, size(sent.Load()), size(in))
	const allowed = n * (frameLimit + 128<<10)
	grown, ok := o.grownTo(base, allowed)
	o.check("RSS growth <= 10 * (frame limit + 128 KiB)", ok, "%s of %s", size(grown), size(allowed))
	o.finish()
}

// T20: random bytes end at most the session that receives them.
//
// The framers have fuzz tests of their own in package frame.
func TestT20Garbage(t *testing.T) {
	o := begin(t, "T20", how{})
	const atOnce = 2 // it is the garbage that is tried, not the processor
	base := o.forgetPeak()
	addresses := []string{o.at.Records, o.at.Lesson, o.at.Length}
	fixed := []string{
		"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
		"SSH-2.0-OpenSSH_9.2\r\n", "\x00\x00\x00\x00\x00\x00\x00\x00", string(make([]byte, 1<<20)), strings.Repeat("\xff", 1<<20),
	}
	each(len(addresses)*len(fixed), atOnce, func(i int) {
		if c, err := net.Dial("tcp", addresses[i%len(addresses)]); err == nil {
			_ = c.SetDeadline(time.Now().Add(patience))
			_, _ = c.Write([]byte(fixed[i/len(addresses)]))
			_ = c.(*net.TCPConn).CloseWrite()
			_, _ = c.Read(make([]byte, 1))
			_ = c.Close()
		}
	})
	var noise [4 << 20]byte
	chance := rand.NewChaCha8([32]byte{20})
	_, _ = chance.Read(noise[:])
	total := int64(scaled(200<<20, 20<<20))
	var sent, connections atomic.Int64
	each(atOnce, atOnce, func(i int) {
		for k := i; sent.Load() < total; k++ {
			c, err := net.Dial("tcp", addresses[k%len(addresses)])
			must(t, err)
			_ = c.SetDeadline(time.Now().Add(patience))
			connections.Add(1)
			sent.Add(int64(flood(c, 1<<rand.IntN(23), func() []byte {
				at, most := rand.IntN(len(noise)/2), 1<<rand.IntN(21)
				return noise[at : at+1+rand.IntN(most)]
			})))
			_ = c.Close()
		}
	})
	_, ok := o.settledAt(0, patience)
	reasons := map[string]int{}
	for _, l := range o.silent {
		kind := "other"
		for _, k := range []string{"came with", "in its place", "bytes long", "checksum", "too large", "malformed", "closed by the peer", "reset"} {
			if strings.Contains(l.Err, k) {
				kind = k
				break
			}
		}
		reasons[kind]++
	}
	o.check("only those sessions end", ok && reasons["other"] == 0, "%s on %d connections, which ended so: %v", size(sent.Load()), connections.Load(), reasons)
	const allowed = atOnce*(frameLimit+128<<10) + 2<<20
	grown, ok := o.grownTo(base, allowed)
	o.check("no allocation > limit", ok, "RSS growth %s of %s", size(grown), size(allowed))
	o.finish()
}

// T21: urgent data disturbs nothing: the stream is the same as without it.
//
// Of urgent bytes in a row, the kernel removes only the last one from the stream. So each is sent after the answer to the record that
// contained the one before.
func TestT21UrgentData(t *testing.T) {
	o := begin(t, "T21", how{})
	const n = 10
	rounds := scaled(10_000, 1000) / n
	var wrong atomic.Int64
	clients := make([]*client, n)
	each(n, n, func(i int) {
		c := o.connect()
		clients[i] = c
		for r := range rounds {
			record := c.out.add(nil, append([]byte{verbEcho}, fmt.Sprint(r)...))
			cut := rand.IntN(len(record))
			want := c.in.seq + 1
			_, err1 := c.Write(record[:cut])
			err2 := urgent(c)
			_, err3 := c.Write(record[cut:])
			err4 := c.take(make([]byte, 4<<10), nil, func() bool { return c.in.seq == want })
			if err := errors.Join(err1, err2, err3, err4); err != nil {
				t.Error(err)
				wrong.Add(1)
				return
			}
		}
		if err := urgent(c); err != nil { // and one that nothing follows
			t.Error(err)
		}
	})
	o.idle(time.Second)
	for _, c := range clients {
		_ = c.CloseWrite()
		_ = c.takeAll()
	}
	o.settledAt(0, patience)
	for _, c := range clients {
		if l := o.lives[c.out.id]; l.Received != c.sent || int(l.Records) != rounds {
			wrong.Add(1)
		}
	}
	o.check("data exact but for urgent bytes", wrong.Load() == 0, "%d urgent bytes in %d records, %d faults", n*(rounds+1), n*rounds, wrong.Load())
	o.finish()
}

// urgent sends a byte with MSG_OOB.
func urgent(c *client) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var sendErr error
	err = raw.Write(func(fd uintptr) bool {
		_, sendErr = unix.SendmsgN(int(fd), []byte{'!'}, nil, nil, unix.MSG_OOB)
		return sendErr != unix.EAGAIN
	})
	return errors.Join(err, sendErr)
}
