package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"
)

// A load is the connections, and what they have done.
type load struct {
	config
	message  []byte
	prepared *websocket.PreparedMessage // message, compressed and masked once
	dialer   websocket.Dialer
	conns    []*websocket.Conn
	readers  sync.WaitGroup

	units    atomic.Int64 // replies or deliveries
	messages atomic.Int64 // that came back whole
	read     atomic.Int64 // bytes, as they came
	failed   chan error   // the first one

	over context.Context // ends when the load does: what fails then is no error
	end  context.CancelFunc
}

func newLoad(c config) (*load, error) {
	l := &load{config: c, message: text(c.size), failed: make(chan error, 1)}
	l.over, l.end = context.WithCancel(context.Background())
	l.dialer = websocket.Dialer{EnableCompression: true, HandshakeTimeout: patience, NetDialContext: l.dialTCP}
	var err error
	// Binary: some servers check text, and others do not.
	l.prepared, err = websocket.NewPreparedMessage(websocket.BinaryMessage, l.message)
	return l, err
}

// text makes JSON as a game or a chat sends it.
func text(size int) []byte {
	var b bytes.Buffer
	b.WriteByte('[')
	for i := 0; b.Len() < size; i++ {
		fmt.Fprintf(&b, `{"id":%d,"name":"player-%d","x":%d.%d,"y":%d.%d,"state":"%s","hp":%d},`,
			i, i*7919%1000, i*31%640, i%10, i*17%480, i*3%10, []string{"idle", "running", "fighting"}[i%3], 100-i*13%100)
	}
	return b.Bytes()[:size]
}

// counted counts what is read.
type counted struct {
	net.Conn
	read *atomic.Int64
}

func (c counted) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.read.Add(int64(n))
	return n, err
}

func (l *load) dialTCP(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := new(net.Dialer).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return counted{c, &l.read}, nil
}

// dial opens a connection whose messages are compressed.
func (l *load) dial() (*websocket.Conn, error) {
	c, response, err := l.dialer.Dial("ws://"+l.addr+l.path, nil)
	if err != nil {
		return nil, err
	}
	l.conns = append(l.conns, c)
	if !strings.Contains(response.Header.Get("Sec-WebSocket-Extensions"), "permessage-deflate") {
		return nil, errNotCompressed
	}
	return c, nil
}

func (l *load) close() {
	l.end()
	for _, c := range l.conns {
		c.Close()
	}
	l.readers.Wait()
}

// fail notes the first error.
func (l *load) fail(err error) {
	if l.over.Err() != nil {
		return
	}
	select {
	case l.failed <- err:
	default:
	}
}

// receive reads the next message, which must be the one that was sent, or a greeting.
func (l *load) receive(c *websocket.Conn) (greeted bool, err error) {
	_, p, err := c.ReadMessage()
	switch {
	case err != nil:
		return false, err
	case string(p) == greeting:
		return true, nil
	case !bytes.Equal(p, l.message):
		return false, fmt.Errorf("a message of %d bytes came back as another one of %d", len(l.message), len(p))
	}
	l.messages.Add(1)
	return false, nil
}

// exchange sends a message and waits for the reply.
func (l *load) exchange(c *websocket.Conn) error {
	if err := c.WritePreparedMessage(l.prepared); err != nil {
		return err
	}
	_, err := l.receive(c)
	return err
}

func (l *load) echo() error {
	for range l.config.conns {
		c, err := l.dial()
		if err != nil {
			return err
		}
		l.readers.Go(func() {
			for l.over.Err() == nil {
				if err := l.exchange(c); err != nil {
					l.fail(err)
					return
				}
				l.units.Add(1)
			}
		})
	}
	return nil
}

func (l *load) idle() error {
	for range l.config.conns {
		c, err := l.dial()
		if err != nil {
			return err
		}
		c.SetReadDeadline(time.Now().Add(patience))
		if err := l.exchange(c); err != nil {
			return err
		}
	}
	return nil
}

// greeting is what is published until every subscriber has got it: a server may not know a connection yet when it is connected.
const greeting = "?"

func (l *load) fanout() error {
	var greeted, received sync.WaitGroup
	for range l.config.conns {
		c, err := l.dial()
		if err != nil {
			return err
		}
		greeted.Add(1)
		l.readers.Go(func() {
			for first := true; ; {
				again, err := l.receive(c)
				switch {
				case err != nil:
					l.fail(err)
					return
				case again && first:
					first = false
					greeted.Done()
				case !again:
					l.units.Add(1)
					received.Done()
				}
			}
		})
	}
	publisher, err := l.dial()
	if err != nil {
		return err
	}
	if err := l.greet(publisher, &greeted); err != nil {
		return err
	}
	l.readers.Go(func() {
		for l.over.Err() == nil {
			received.Add(l.config.conns)
			if err := publisher.WritePreparedMessage(l.prepared); err != nil {
				l.fail(err)
				return
			}
			if err := l.wait(&received); err != nil {
				l.fail(err)
				return
			}
		}
	})
	return nil
}

// greet publishes greetings until every subscriber has got one.
func (l *load) greet(publisher *websocket.Conn, greeted *sync.WaitGroup) error {
	all := make(chan struct{})
	go func() {
		defer close(all)
		greeted.Wait()
	}()
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for late := time.After(patience); ; {
		if err := publisher.WriteMessage(websocket.BinaryMessage, []byte(greeting)); err != nil {
			return err
		}
		select {
		case <-all:
			return nil
		case err := <-l.failed:
			return err
		case <-late:
			return fmt.Errorf("not every subscriber has got a message within %v", patience)
		case <-again.C:
		}
	}
}

// wait waits until every subscriber has the message, or the load is over: then connections are closed, and some never get it.
func (l *load) wait(received *sync.WaitGroup) error {
	all := make(chan struct{})
	go func() {
		defer close(all)
		received.Wait()
	}()
	select {
	case <-all:
		return nil
	case <-l.over.Done():
		return nil
	case <-time.After(patience):
		return fmt.Errorf("not every subscriber has got the message within %v", patience)
	}
}
