package bench

import (
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The last word waits for the end of the peer's, throws away what comes before, and does not wait for ever.
func TestLastWord(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	const late = 50 * time.Millisecond
	for name, k := range map[string]struct {
		serve  func(c net.Conn)
		within time.Duration
		want   bool
	}{
		"closes late": {func(c net.Conn) {
			_, _ = c.Write(make([]byte, 100_000))
			_, _ = c.Read(make([]byte, 1)) // until it ends
			time.Sleep(late)
			_ = c.Close()
		}, 10 * time.Second, true},
		"never closes": {func(c net.Conn) {
			_, _ = c.Read(make([]byte, 1))
			time.Sleep(20 * late)
			_ = c.Close()
		}, late, false},
		"resets": {func(c net.Conn) {
			_, _ = c.Read(make([]byte, 1)) // the client is connected
			_ = c.(*net.TCPConn).SetLinger(0)
			_ = c.Close()
		}, 10 * time.Second, true},
	} {
		t.Run(name, func(t *testing.T) {
			served := make(chan struct{})
			go func() {
				defer close(served)
				if c, err := l.Accept(); err == nil {
					k.serve(c)
				}
			}()
			c, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			file, err := c.(*net.TCPConn).File()
			if err != nil {
				t.Fatal(err)
			}
			defer file.Close()
			fd := int(file.Fd())
			if err := unix.SetNonblock(fd, true); err != nil { // Fd has made it wait
				t.Fatal(err)
			}
			if name == "resets" {
				if _, err := c.Write([]byte("x")); err != nil {
					t.Fatal(err)
				}
			}
			began := time.Now()
			if got := lastWord(fd, make([]byte, 4096), k.within); got != k.want {
				t.Errorf("the peer has ended it: %t, want %t", got, k.want)
			}
			if took := time.Since(began); name != "resets" && took < late {
				t.Errorf("it has waited for %v, want %v or more", took, late)
			}
			_ = file.Close()
			_ = c.Close()
			<-served
		})
	}
}
