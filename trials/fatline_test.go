//go:build linux

package trials

import (
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// fatLine is a line between two namespaces that takes time and nothing else. Its TUN devices take what a network card would cut (TSO): packets
// of up to 64 KiB, each with its offload header. So one thread for each direction carries hundreds of megabytes a second.
type fatLine struct {
	delay time.Duration // one way
	cut   atomic.Bool   // everything is lost
	ends  [2]*os.File
}

const (
	// tunFeatures are TUN_F_CSUM, TUN_F_TSO4 and TUN_F_TSO6 of linux/if_tun.h: who reads the device takes packets without a checksum, and
	// those of TCP uncut.
	tunFeatures = 1 | 2 | 4

	// linePackets bounds the packets on their way in one direction; more are lost. It is far above what the trials send in one delay.
	linePackets = 1 << 17
)

// newFatLine makes the namespaces and the line, until the test ends. What the kernel may fit the buffers to is what most systems have, whatever
// this one has.
func newFatLine(t *testing.T, trial string, delay time.Duration) (near, far *namespace, l *fatLine) {
	t.Helper()
	l = &fatLine{delay: delay}
	near, far = newNamespace(t, trial), newNamespace(t, trial)
	for i, n := range []*namespace{near, far} {
		var err error
		n.do(func() { l.ends[i], err = openTUN("line", unix.IFF_VNET_HDR) })
		if err == nil {
			err = takeUncut(l.ends[i])
		}
		if err != nil {
			skip(t, trial, fmt.Sprintf("no TUN device with offload: %v", err))
		}
		n.run(t, "ip addr add "+[]string{nearAddress, farAddress}[i]+"/24 dev line")
		n.run(t, "ip link set line txqueuelen 10000 up")
		n.set(t, "tcp_rmem", "4096 131072 6291456")
		n.set(t, "tcp_wmem", "4096 16384 4194304")
	}
	var pumps sync.WaitGroup
	for i := range l.ends {
		sent := make(chan flying, linePackets)
		pumps.Go(func() { l.take(i, sent) })
		pumps.Go(func() { l.deliver(i, sent) })
	}
	t.Cleanup(func() {
		for _, end := range l.ends {
			_ = end.Close()
		}
		pumps.Wait()
	})
	return near, far, l
}

func takeUncut(tun *os.File) error {
	raw, err := tun.SyscallConn()
	if err != nil {
		return err
	}
	var errno unix.Errno
	err = raw.Control(func(fd uintptr) { _, _, errno = unix.Syscall(unix.SYS_IOCTL, fd, unix.TUNSETOFFLOAD, tunFeatures) })
	if errno != 0 {
		return errno
	}
	return err
}

// flying is a packet on its way.
type flying struct {
	due    time.Time
	packet *[]byte
}

// packetMemory has memory for a packet of any size.
var packetMemory = sync.Pool{New: func() any { b := make([]byte, 66<<10); return &b }}

// take takes the packets from end i.
func (l *fatLine) take(i int, sent chan<- flying) {
	defer close(sent)
	ownThread()
	for {
		b := packetMemory.Get().(*[]byte)
		*b = (*b)[:cap(*b)]
		n, err := l.ends[i].Read(*b)
		if err != nil { // closed
			return
		}
		*b = (*b)[:n]
		if l.cut.Load() {
			continue
		}
		select {
		case sent <- flying{time.Now().Add(l.delay), b}:
		default:
		}
	}
}

// deliver hands them to the other end when they are due, in order.
func (l *fatLine) deliver(i int, sent <-chan flying) {
	ownThread()
	for f := range sent {
		if left := time.Until(f.due); left > 0 {
			time.Sleep(left)
		}
		_, _ = l.ends[1-i].Write(*f.packet) // what its kernel does not take is lost, as on a line
		packetMemory.Put(f.packet)
	}
}

// ownThread gives the goroutine a thread with the priority of the servers, which ends with it: a line does not slow down when clients stand
// back.
func ownThread() {
	runtime.LockOSThread()
	_ = unix.Setpriority(unix.PRIO_PROCESS, 0, serversNice)
}
