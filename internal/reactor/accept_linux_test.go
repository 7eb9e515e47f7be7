package reactor

import (
	"net"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// Accept returns the address of each kind of peer as package unix does, and a descriptor that does not block and is closed on exec.
func TestAcceptedAddress(t *testing.T) {
	folder := t.TempDir()
	full := "@" + strings.Repeat("n", 107) // the whole of sun_path
	for name, tt := range map[string]struct {
		network, listen string
		local           net.Addr // the client's, nil for any
	}{
		"IPv4":            {"tcp4", "127.0.0.1:0", &net.TCPAddr{IP: net.IPv4(127, 1, 2, 3), Port: 0}},
		"IPv6":            {"tcp6", "[::1]:0", nil},
		"any, of IPv6":    {"tcp", ":0", nil},
		"unix":            {"unix", filepath.Join(folder, "s"), nil},
		"unix with path":  {"unix", filepath.Join(folder, "p"), &net.UnixAddr{Net: "unix", Name: filepath.Join(folder, "client")}},
		"unix, abstract":  {"unix", filepath.Join(folder, "a"), &net.UnixAddr{Net: "unix", Name: "@reactor-accepted"}},
		"unix, full name": {"unix", filepath.Join(folder, "f"), &net.UnixAddr{Net: "unix", Name: full}},
	} {
		t.Run(name, func(t *testing.T) {
			ln, err := net.Listen(tt.network, tt.listen)
			if err != nil && strings.Contains(name, "IPv6") {
				t.Logf("no IPv6 on this machine: %v", err)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer ln.Close()
			fd, err := Duplicate(ln.(syscall.Conn))
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(fd)
			d := net.Dialer{LocalAddr: tt.local}
			c, err := d.Dial(ln.Addr().Network(), ln.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			accepted, peer, err := Accept(fd)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(accepted)
			want, err := unix.Getpeername(accepted)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(visible(peer), visible(want)) {
				t.Errorf("the peer is %+v, want %+v", visible(peer), visible(want))
			}
			if flags, err := unix.FcntlInt(uintptr(accepted), unix.F_GETFL, 0); err != nil || flags&unix.O_NONBLOCK == 0 {
				t.Errorf("the descriptor blocks: flags %x, %v", flags, err)
			}
			if flags, err := unix.FcntlInt(uintptr(accepted), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
				t.Errorf("the descriptor would be inherited: flags %x, %v", flags, err)
			}
			if _, _, err := Accept(fd); err != unix.EAGAIN {
				t.Errorf("nobody waits: %v, want EAGAIN", err)
			}
		})
	}
}

// visible returns an address without the memory that package unix keeps beside it.
func visible(sa unix.Sockaddr) any {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return []any{sa.Port, sa.Addr}
	case *unix.SockaddrInet6:
		return []any{sa.Port, sa.ZoneId, sa.Addr}
	case *unix.SockaddrUnix:
		return sa.Name
	}
	return sa
}
