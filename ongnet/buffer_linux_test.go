package ongnet_test

import (
	"net"
	"os"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/servercore-go/servercore/engine"
	kit "github.com/servercore-go/servercore/internal/enginekit"
)

// What the kernel holds for a connection is bounded as on the engine's own loops.
func TestKernelBuffers(t *testing.T) {
	for name, tt := range map[string]struct {
		o             engine.Options
		fixed, unsent int // 0: the kernel's own
	}{
		"default": {engine.Options{}, 0, 256 << 10},
		"chosen":  {engine.Options{SendBuffer: 32 << 10, NotSentLowWater: 99 << 10}, 64 << 10, 99 << 10},
		"off":     {engine.Options{SendBuffer: -1, NotSentLowWater: -1}, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			s, w := serve(t, tt.o, kit.Hooks{})
			c, _ := connect(t, s, w)
			fd := socketTo(t, c.LocalAddr().(*net.TCPAddr).Port)
			get := func(level, option int) int {
				n, err := unix.GetsockoptInt(fd, level, option)
				kit.Must(t, err)
				return n
			}
			if n := get(unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT); n != tt.unsent {
				t.Errorf("TCP_NOTSENT_LOWAT is %d, want %d", n, tt.unsent)
			}
			fixed := get(unix.SOL_SOCKET, unix.SO_BUF_LOCK)&unix.SOCK_SNDBUF_LOCK != 0
			if n := get(unix.SOL_SOCKET, unix.SO_SNDBUF); fixed != (tt.fixed > 0) || fixed && n != tt.fixed {
				t.Errorf("SO_SNDBUF is %d, fixed: %v; want %d, 0 for one that the kernel tunes", n, fixed, tt.fixed)
			}
		})
	}
}

// socketTo returns this process's descriptor whose peer has that port of 127.0.0.1.
func socketTo(t *testing.T, port int) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	kit.Must(t, err)
	for _, e := range entries {
		fd, err := strconv.Atoi(e.Name())
		kit.Must(t, err)
		if peer, err := unix.Getpeername(fd); err == nil {
			if p, ok := peer.(*unix.SockaddrInet4); ok && p.Port == port {
				return fd
			}
		}
	}
	t.Fatalf("no socket has a peer at port %d", port)
	return -1
}
