//go:build linux

package trials

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// weather is what a relay does to the packets of each direction, as fractions of 1.
type weather struct {
	loss, double, flip float64
	delay, jitter      time.Duration // delay +- jitter, which puts packets out of order
}

// relay is a bad line between two namespaces. Each has a TUN device, and the relay passes packets from one to the other, or loses and
// changes them.
type relay struct {
	weather
	bad                      atomic.Bool // whether it does it now
	ends                     [2]*os.File
	timers                   sync.WaitGroup
	passed, lost, late, bent atomic.Int64
	highest                  [2]atomic.Int64 // the last packet that was handed on
}

// newRelay makes the namespaces and the line, until the test ends.
func newRelay(t *testing.T, trial string, w weather) (near, far *namespace, r *relay) {
	t.Helper()
	r = &relay{weather: w}
	near, far = newNamespace(t, trial), newNamespace(t, trial)
	for i, n := range []*namespace{near, far} {
		var err error
		n.do(func() { r.ends[i], err = openTUN("line", 0) })
		if err != nil {
			skip(t, trial, fmt.Sprintf("no TUN device: %v", err))
		}
		n.run(t, "ip addr add "+[]string{nearAddress, farAddress}[i]+"/24 dev line")
		n.run(t, "ip link set line up")
	}
	var pumps sync.WaitGroup
	for i := range r.ends {
		pumps.Go(func() { r.pump(i) })
	}
	t.Cleanup(func() {
		for _, end := range r.ends {
			_ = end.Close()
		}
		pumps.Wait()
		r.timers.Wait()
	})
	return near, far, r
}

// pump passes on the packets from end i.
func (r *relay) pump(i int) {
	buf := make([]byte, 64<<10)
	for number := int64(1); ; number++ {
		n, err := r.ends[i].Read(buf)
		if errors.Is(err, os.ErrClosed) || err != nil {
			return
		}
		packet := append([]byte(nil), buf[:n]...)
		if !r.bad.Load() {
			_, _ = r.ends[1-i].Write(packet)
			continue
		}
		if rand.Float64() < r.loss {
			r.lost.Add(1)
			continue
		}
		if rand.Float64() < r.flip {
			packet[rand.IntN(n)] ^= 1 << rand.IntN(8)
			r.bent.Add(1)
		}
		for copies := 1; copies > 0; copies-- {
			if rand.Float64() < r.double {
				copies++
			}
			after := r.delay + time.Duration((2*rand.Float64()-1)*float64(r.jitter))
			r.timers.Add(1)
			time.AfterFunc(after, func() {
				defer r.timers.Done()
				if r.highest[i].Load() > number {
					r.late.Add(1)
				}
				r.highest[i].Store(number)
				r.passed.Add(1)
				_, _ = r.ends[1-i].Write(packet) // what its kernel does not like is lost, as on a line
			})
		}
	}
}

// openTUN opens a new TUN device in the namespace of the calling thread, with flags besides IFF_TUN and IFF_NO_PI.
func openTUN(name string, flags uint16) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	var request [40]byte // struct ifreq
	copy(request[:unix.IFNAMSIZ-1], name)
	binary.NativeEndian.PutUint16(request[unix.IFNAMSIZ:], unix.IFF_TUN|unix.IFF_NO_PI|flags)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.TUNSETIFF, uintptr(unsafe.Pointer(&request))); errno != 0 {
		_ = unix.Close(fd)
		return nil, errno
	}
	return os.NewFile(uintptr(fd), "tun"), nil
}
