package reactor

import (
	"io"
	"net"
	"testing"

	"golang.org/x/sys/unix"
)

// A Watcher tells at once of a descriptor that takes bytes, again when one that was full takes bytes, and of one that has broken.
func TestWatcher(t *testing.T) {
	told := make(chan string, 100)
	w := Watcher[string]{Tell: func(c string) { told <- c }}
	defer w.Close()
	client, fd := tcp(t)
	defer unix.Close(fd)
	if err := w.Add(fd, "it"); err != nil {
		t.Fatal(err)
	}
	receive(t, told)

	var m WriteMemory
	sent := 0
	for {
		n, err := Socket(fd).Write(&m, [][]byte{make([]byte, 50_000), make([]byte, 50_000)})
		if sent += n; err == ErrWouldBlock {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if n := Socket(fd).Unsent(); n <= 0 || n > sent {
		t.Errorf("%d bytes are not acknowledged of %d", n, sent)
	}
	if _, err := io.CopyN(io.Discard, client, int64(sent)); err != nil {
		t.Fatal(err)
	}
	receive(t, told)

	write(t, client, "unread")
	for !Socket(fd).Unread() || Socket(fd).Received() < 6 {
	}
	for len(told) > 0 {
		<-told
	}
	_ = client.(*net.TCPConn).SetLinger(0)
	_ = client.Close()
	receive(t, told)
	if err := Socket(fd).Error(); err != unix.ECONNRESET {
		t.Errorf("the pending error is %v, want a reset", err)
	}
	w.Remove(fd)
}

// One that was never used holds nothing.
func TestWatcherUnused(t *testing.T) {
	w := Watcher[int]{Tell: func(int) { t.Error("told") }}
	w.Close()
	if err := w.poller; err != nil {
		t.Error("it has a poller")
	}
}

// A FIN for a peer that has reset the connection fails with the reset: shutdown(2) says only that nothing is connected.
func TestCloseWriteAfterReset(t *testing.T) {
	for name, closeWrite := range map[string]func(fd int) error{
		"Socket": func(fd int) error { return Socket(fd).CloseWrite() },
		"Conn":   func(fd int) error { return (&Conn[*side]{fd: int32(fd)}).CloseWrite() },
	} {
		client, fd := tcp(t)
		if err := client.(*net.TCPConn).SetLinger(0); err != nil {
			t.Fatal(err)
		}
		_ = client.Close()
		eventually(t, "the reset has come", func() bool { return pollsBroken(fd) })
		if err := closeWrite(fd); err != unix.ECONNRESET {
			t.Errorf("%s: %v, want a reset", name, err)
		}
		if err := closeWrite(fd); err != unix.ENOTCONN {
			t.Errorf("%s again: %v, the reset was told", name, err)
		}
		Socket(fd).Close()
	}
}

// What is discarded by ResetOnClose is told to the peer.
func TestSocketResetOnClose(t *testing.T) {
	client, fd := tcp(t)
	Socket(fd).ResetOnClose()
	Socket(fd).Close()
	if _, err := client.Read(make([]byte, 1)); err == nil || err == io.EOF {
		t.Errorf("the peer sees %v, want a reset", err)
	}
}
