package session_test

import (
	"net"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/servercore-go/servercore/session"
)

// bare is a transport that takes everything and needs no memory for it.
type bare struct {
	session.Transport
	scratch *session.Scratch
}

func (b bare) Scratch() *session.Scratch { return b.scratch }
func (bare) Wake()                       {}
func (bare) WakeAll([]session.Transport) {}
func (bare) Again()                      {}
func (bare) Now() time.Duration          { return time.Second }
func (bare) Arm(time.Duration)           {}
func (bare) Unsent() int                 { return 0 }
func (bare) Received() int               { return 0 }
func (bare) Close(bool)                  {}
func (bare) Done()                       {}
func (bare) Write(bufs [][]byte) (n int, _ error) {
	for _, b := range bufs {
		n += len(b)
	}
	return n, nil
}

// addressee notes the addresses that its callbacks get.
type addressee struct {
	session.Session
	connected, disconnected net.Addr
}

func (h *addressee) OnConnected(remote net.Addr)    { h.connected = remote }
func (h *addressee) OnDisconnected(remote net.Addr) { h.disconnected = remote }

// uncomparable is an address of a type that == panics for.
type uncomparable struct{ parts []string }

func (uncomparable) Network() string { return "odd" }
func (uncomparable) String() string  { return "odd" }

// Whatever the form of an address, callbacks, methods and Driver.Addresses tell the one that the connection was bound with, after the end too. RemoteAddr
// returns the same net.Addr each time.
func TestAddressesAreThoseOfTheConnection(t *testing.T) {
	local := &net.TCPAddr{IP: net.IP{10, 0, 0, 1}, Port: 7777}
	for name, remote := range map[string]net.Addr{
		"IPv4":                              &net.TCPAddr{IP: net.IP{192, 0, 2, 7}, Port: 65535},
		"IPv4 in 16 bytes":                  &net.TCPAddr{IP: net.ParseIP("192.0.2.7"), Port: 1},
		"IPv6":                              &net.TCPAddr{IP: net.ParseIP("2001:db8::7"), Port: 4242},
		"with a zone":                       &net.TCPAddr{IP: net.ParseIP("fe80::7"), Port: 4242, Zone: "eth0"},
		"without IP":                        &net.TCPAddr{Port: 5},
		"an odd port":                       &net.TCPAddr{IP: net.IP{192, 0, 2, 7}, Port: 1 << 16},
		"unix":                              &net.UnixAddr{Net: "unix", Name: "@peer"},
		"of a type that cannot be compared": uncomparable{[]string{"a"}},
		"none":                              nil,
	} {
		t.Run(name, func(t *testing.T) {
			loop := session.NewLoop(session.Limits{})
			conn := bare{scratch: session.NewScratch()}
			for range 2 { // the second may share with the first
				h := &addressee{}
				if h.RemoteAddr() != nil || h.LocalAddr() != nil {
					t.Error("an address before Bind")
				}
				d, err := session.Bind(h, conn, loop, nil, local, remote)
				if err != nil {
					t.Fatal(err)
				}
				d.Connected()
				check := func(when string, got net.Addr) {
					t.Helper()
					if !reflect.DeepEqual(got, remote) {
						t.Errorf("%s: %#v, want %#v", when, got, remote)
					}
				}
				check("OnConnected", h.connected)
				own := d.Addresses()
				check("Addresses", own.Remote())
				check("RemoteAddr", h.RemoteAddr())
				if _, odd := remote.(uncomparable); !odd && h.RemoteAddr() != h.RemoteAddr() {
					t.Error("RemoteAddr returns another each time")
				}
				if h.LocalAddr() != local || own.Local() != local {
					t.Errorf("LocalAddr %v, Addresses %v", h.LocalAddr(), own.Local())
				}
				d.Kill(session.ErrShutdown)
				d.Turn()
				check("OnDisconnected", h.disconnected)
				check("RemoteAddr after the end", h.RemoteAddr())
			}
		})
	}
}

// Goroutines that ask for the address at the same time get the same one.
func TestRemoteAddrFromManyGoroutines(t *testing.T) {
	remote := &net.TCPAddr{IP: net.IP{192, 0, 2, 7}, Port: 1}
	h := &addressee{}
	d, err := session.Bind(h, bare{scratch: session.NewScratch()}, session.NewLoop(session.Limits{}), nil, remote, remote)
	if err != nil {
		t.Fatal(err)
	}
	d.Connected()
	got := make([]net.Addr, 8)
	var all sync.WaitGroup
	for i := range got {
		all.Go(func() { got[i] = h.RemoteAddr() })
	}
	all.Wait()
	for i := range got {
		if got[i] == nil || got[i] != got[0] || got[i].String() != remote.String() {
			t.Errorf("goroutine %d got %v, another got %v", i, got[i], got[0])
		}
	}
	d.Kill(session.ErrShutdown)
	d.Turn()
}
