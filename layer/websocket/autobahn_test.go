package websocket_test

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/servercore-go/servercore/layer/websocket"
)

// Cases in the groups and with the numbers of Autobahn's test suite for RFC 6455. Each runs on both sides, cut in three ways, with room for
// the messages, with little, and with none.

// wsCase is what the peer sends, and what must come of it.
type wsCase struct {
	id       string
	frames   []frame
	messages []string // as heard has them
	pongs    []string // payloads
	code     int      // of the error that ends the session, 0 for none
	answer   string   // the close frame that follows; "" for the code's own
	max      int      // Options.MaxMessage
	cuts     []cut    // in place of those of every case
}

func (c wsCase) run(t *testing.T) {
	t.Run(c.id, func(t *testing.T) {
		note(t, numbers(c.id)...)
		for _, client := range []bool{false, true} {
			wire := encodeAll(!client, c.frames...)
			ways := c.cuts
			if ways == nil {
				ways = cuts(len(wire))
			}
			if len(wire) > 2<<20 {
				ways = ways[len(ways)-1:]
			}
			for _, cut := range ways {
				rooms := []int{64 << 10, 16, 0}
				if len(wire) > 128<<10 {
					rooms = rooms[:1]
				}
				for _, room := range rooms {
					o := websocket.Options{MaxMessage: c.max}
					l := accepted
					if client {
						l = dialled
					}
					c.check(t, fmt.Sprintf("client %v, %s, room for %d", client, cut.name, room), hear(t, l(t, o), wire, cut, make([]byte, room), client))
				}
			}
		}
		noBuffers(t)
	})
}

func (c wsCase) check(t *testing.T, how string, h heard) {
	t.Helper()
	if !slices.Equal(h.messages, c.messages) {
		t.Errorf("%s: messages %.300q, want %.300q", how, h.messages, c.messages)
	}
	var pongs []string
	for _, p := range c.pongs {
		pongs = append(pongs, "pong "+show(p))
	}
	if !slices.Equal(h.own, pongs) {
		t.Errorf("%s: own frames %q, want %q", how, h.own, pongs)
	}
	if code(h.err) != c.code || (h.err == nil) != (c.code == 0) {
		t.Errorf("%s: ended with %v, want code %d", how, h.err, c.code)
	}
	want := c.answer
	if want == "" && c.code != 0 {
		want = fmt.Sprint("close ", c.code)
	}
	if h.last != want {
		t.Errorf("%s: last word %q, want %q", how, h.last, want)
	}
}

func aText(p string) string   { return "text " + show(p) }
func aBinary(p string) string { return "binary " + show(p) }

// split cuts p into frames with n bytes each.
func split(op byte, p string, n int) (frames []frame) {
	for i := 0; i < len(p); i += n {
		f := frame{cont, p[i:min(i+n, len(p))]}
		if i == 0 {
			f.first = op
		}
		if i+n >= len(p) {
			f.first |= fin
		}
		frames = append(frames, f)
	}
	return frames
}

func TestAutobahn1Framing(t *testing.T) {
	for i, n := range []int{0, 125, 126, 127, 128, 65535, 65536, 65536} {
		p := strings.Repeat("*", n)
		wsCase{id: fmt.Sprint("1.1.", i+1), frames: []frame{{fin | text, p}}, messages: []string{aText(p)}}.run(t)
		p = strings.Repeat("\xfe", n)
		wsCase{id: fmt.Sprint("1.2.", i+1), frames: []frame{{fin | binaryOp, p}}, messages: []string{aBinary(p)}}.run(t)
	}
}

func TestAutobahn2Pings(t *testing.T) {
	const odd = "\x00\xff\xfe\xfd\xfc\xfb\x00\xff"
	long := strings.Repeat("\xfe", 125)
	var ten []frame
	var payloads []string
	for i := range 10 {
		payloads = append(payloads, fmt.Sprint("payload-", i))
		ten = append(ten, frame{fin | ping, payloads[i]})
	}
	for _, c := range []wsCase{
		{id: "2.1", frames: []frame{{fin | ping, ""}}, pongs: []string{""}},
		{id: "2.2", frames: []frame{{fin | ping, "Hello, world!"}}, pongs: []string{"Hello, world!"}},
		{id: "2.3", frames: []frame{{fin | ping, odd}}, pongs: []string{odd}},
		{id: "2.4 and 2.6", frames: []frame{{fin | ping, long}}, pongs: []string{long}},
		{id: "2.5", frames: []frame{{fin | ping, long + "."}}, code: 1002},
		{id: "2.7", frames: []frame{{fin | pong, ""}}},
		{id: "2.8", frames: []frame{{fin | pong, "unsolicited"}}},
		{id: "2.9", frames: []frame{{fin | pong, "unsolicited"}, {fin | ping, "ping"}}, pongs: []string{"ping"}},
		{id: "2.10 and 2.11", frames: ten, pongs: payloads},
	} {
		c.run(t)
	}
}

func TestAutobahn3ReservedBits(t *testing.T) {
	hello := frame{fin | text, "Hello, world!"}
	for i, bad := range []frame{{fin | 1<<4 | text, "x"}, {fin | 2<<4 | text, "x"}, {fin | 3<<4 | text, "x"}, {fin | 4<<4 | text, "x"},
		{fin | 5<<4 | binaryOp, "x"}, {fin | 6<<4 | ping, "x"}, {fin | 7<<4 | closeOp, ""}} {
		c := wsCase{id: fmt.Sprint("3.", i+1), frames: []frame{bad, {fin | ping, ""}}, code: 1002}
		if i > 0 {
			c.frames, c.messages = append([]frame{hello}, c.frames...), []string{aText("Hello, world!")}
		}
		c.run(t)
	}
}

func TestAutobahn4Opcodes(t *testing.T) {
	for group, first := range []byte{3, 11} {
		for i := range byte(5) {
			for _, p := range []string{"", "reserved opcode payload"} {
				bad := frame{fin | (first + i), p}
				wsCase{id: fmt.Sprintf("4.%d.%d with %d bytes", group+1, i+1, len(p)), frames: []frame{{fin | text, "Hello"}, bad, {fin | ping, ""}},
					messages: []string{aText("Hello")}, code: 1002}.run(t)
			}
		}
	}
}

func TestAutobahn5Fragmentation(t *testing.T) {
	parts := []frame{{text, "fragment1"}, {fin | cont, "fragment2"}}
	both := []string{aText("fragment1fragment2")}
	nothing, unfinished := frame{fin | cont, "non-continuation"}, frame{cont, "non-continuation"}
	hello := frame{fin | text, "Hello, world!"}
	five := []frame{{text, "fragment1"}, {cont, "fragment2"}, {fin | ping, "pongme 1!"}, {cont, "fragment3"}, {cont, "fragment4"},
		{fin | ping, "pongme 2!"}, {fin | cont, "fragment5"}}
	for _, c := range []wsCase{
		{id: "5.1", frames: []frame{{ping, "fragment1"}, {fin | cont, "fragment2"}}, code: 1002},
		{id: "5.2", frames: []frame{{pong, "fragment1"}, {fin | cont, "fragment2"}}, code: 1002},
		{id: "5.3 to 5.5", frames: parts, messages: both},
		{id: "5.6 to 5.8", frames: []frame{parts[0], {fin | ping, "ping"}, parts[1]}, messages: both, pongs: []string{"ping"}},
		{id: "5.9 to 5.11", frames: []frame{nothing, hello}, code: 1002},
		{id: "5.12 to 5.14", frames: []frame{unfinished, hello}, code: 1002},
		{id: "5.15", frames: []frame{parts[0], parts[1], unfinished, hello}, messages: both, code: 1002},
		{id: "5.16", frames: []frame{unfinished, hello, unfinished, hello}, code: 1002},
		{id: "5.17", frames: []frame{nothing, hello, nothing, hello}, code: 1002},
		{id: "5.18", frames: []frame{{text, "fragment1"}, {fin | text, "fragment2"}}, code: 1002},
		{id: "5.19 and 5.20", frames: five, messages: []string{aText("fragment1fragment2fragment3fragment4fragment5")}, pongs: []string{"pongme 1!", "pongme 2!"}},
		{id: "5, fragments without payload", frames: []frame{{text, ""}, {cont, ""}, {fin | cont, ""}}, messages: []string{aText("")}},
		{id: "5, a close frame in fragments", frames: []frame{{closeOp, "\x03\xe8"}, {fin | cont, ""}}, code: 1002},
		{id: "5, binary in the middle of text", frames: []frame{{text, "a"}, {binaryOp, "b"}}, code: 1002},
	} {
		c.run(t)
	}
}

func TestAutobahn7Close(t *testing.T) {
	hello := frame{fin | text, "Hello World!"}
	closing := func(code int, reason string) frame {
		return frame{fin | closeOp, string([]byte{byte(code >> 8), byte(code)}) + reason}
	}
	big := strings.Repeat("BAsd7&jh23", 26<<10)
	said := []string{aText("Hello World!")}
	for _, c := range []wsCase{
		{id: "7.1.1", frames: []frame{hello, closing(1000, "")}, messages: said, code: 1000},
		{id: "7.1.2", frames: []frame{closing(1000, ""), closing(1000, "")}, code: 1000},
		{id: "7.1.3", frames: []frame{closing(1000, ""), {fin | ping, ""}}, code: 1000},
		{id: "7.1.4", frames: []frame{closing(1000, ""), hello}, code: 1000},
		{id: "7.1.5", frames: []frame{{text, "fragment1"}, closing(1000, ""), {fin | cont, "fragment2"}}, code: 1000},
		{id: "7.1.6", frames: []frame{{fin | text, big}, hello, closing(1000, ""), {fin | ping, ""}}, messages: []string{aText(big), said[0]}, code: 1000},
		{id: "7.3.1", frames: []frame{{fin | closeOp, ""}}, code: 1005, answer: "close"},
		{id: "7.3.2", frames: []frame{{fin | closeOp, "a"}}, code: 1002},
		{id: "7.3.3", frames: []frame{closing(1000, "")}, code: 1000},
		{id: "7.3.4", frames: []frame{closing(1000, "Hello World!")}, code: 1000},
		{id: "7.3.5", frames: []frame{closing(1000, strings.Repeat("*", 123))}, code: 1000},
		{id: "7.3.6", frames: []frame{closing(1000, strings.Repeat("*", 124))}, code: 1002},
		{id: "7.5.1", frames: []frame{closing(1000, "\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited")}, code: 1007},
		{id: "7.13.1", frames: []frame{closing(5000, "")}, code: 1002},
		{id: "7.13.2", frames: []frame{closing(65535, "")}, code: 1002},
	} {
		c.run(t)
	}
	for i, code := range []int{1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999, 1012, 1013, 1014} {
		for _, reason := range []string{"", "reason"} {
			id := fmt.Sprintf("7.7.%d %d %s", i+1, code, reason)
			if i >= 13 { // registered later, and not in Autobahn
				id = fmt.Sprintf("7.7, %d %s", code, reason)
			}
			wsCase{id: id, frames: []frame{closing(code, reason)}, code: code}.run(t)
		}
	}
	for i, code := range []int{0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999, 1015} {
		id := fmt.Sprintf("7.9.%d %d", i+1, code)
		if code == 1015 {
			id = "7.9, 1015"
		}
		wsCase{id: id, frames: []frame{closing(code, "")}, code: 1002}.run(t)
	}
}

// Under -short, group 9 is a tenth of its size, and without the messages above 4 MiB.
func TestAutobahn9Limits(t *testing.T) {
	sizes, whole, many := []int{64 << 10, 256 << 10, 1 << 20, 4 << 20, 8 << 20, 16 << 20}, 4<<20, 1000
	if testing.Short() {
		sizes, whole, many = sizes[:4], 1<<20, 100
	}
	for i, n := range sizes {
		p := strings.Repeat("BAsd7&jh", n/8)
		wsCase{id: fmt.Sprint("9.1.", i+1), max: n, frames: []frame{{fin | text, p}}, messages: []string{aText(p)}}.run(t)
		p = strings.Repeat("\xfe\x00\xff*", n/4)
		wsCase{id: fmt.Sprint("9.2.", i+1), max: n, frames: []frame{{fin | binaryOp, p}}, messages: []string{aBinary(p)}}.run(t)
	}
	p := strings.Repeat("BAsd7&jh", whole/8)
	for i, n := range []int{64, 256, 1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20} {
		wsCase{id: fmt.Sprint("9.3.", i+1), max: whole, frames: split(text, p, n), messages: []string{aText(p)}}.run(t)
		wsCase{id: fmt.Sprint("9.4.", i+1), max: whole, frames: split(binaryOp, p, n), messages: []string{aBinary(p)}}.run(t)
	}
	p = p[:1<<20]
	for i, n := range []int{64, 128, 256, 512, 1024, 2048} {
		pieces := []cut{{fmt.Sprintf("in pieces of %d", n), func(left int) int { return min(left, n) }}}
		wsCase{id: fmt.Sprint("9.5.", i+1), cuts: pieces, frames: []frame{{fin | text, p}}, messages: []string{aText(p)}}.run(t)
		wsCase{id: fmt.Sprint("9.6.", i+1), cuts: pieces, frames: []frame{{fin | binaryOp, p}}, messages: []string{aBinary(p)}}.run(t)
	}
	for i, n := range []int{0, 16, 64, 256, 1024, 4096} {
		wsCase{id: fmt.Sprint("9.7.", i+1), frames: slices.Repeat([]frame{{fin | text, p[:n]}}, many),
			messages: slices.Repeat([]string{aText(p[:n])}, many)}.run(t)
		wsCase{id: fmt.Sprint("9.8.", i+1), frames: slices.Repeat([]frame{{fin | binaryOp, p[:n]}}, many),
			messages: slices.Repeat([]string{aBinary(p[:n])}, many)}.run(t)
	}
}

// What is longer than MaxMessage ends the session with 1009, by the length announced and by the sum.
func TestAutobahn9MaxMessage(t *testing.T) {
	ok, long := strings.Repeat("a", 1000), strings.Repeat("a", 1001)
	for _, c := range []wsCase{
		{id: "9, the most", max: 1000, frames: []frame{{fin | text, ok}}, messages: []string{aText(ok)}},
		{id: "9, a byte more", max: 1000, frames: []frame{{fin | text, long}}, code: 1009},
		{id: "9, the most in pieces", max: 1000, frames: split(binaryOp, ok, 100), messages: []string{aBinary(ok)}},
		{id: "9, a byte more in pieces", max: 1000, frames: split(binaryOp, long, 100), code: 1009},
		{id: "9, pieces that end with the most", max: 1000, frames: []frame{{text, ok}, {fin | cont, ""}}, messages: []string{aText(ok)}},
	} {
		c.run(t)
	}
}

// A length is refused when the header has come: nothing is held for it. Lengths of 64 bits and lengths in more bytes than needed are
// refused.
func TestAutobahn9AnnouncedLengths(t *testing.T) {
	for _, tt := range []struct {
		name, wire string
		code       int
	}{
		{"a byte more than MaxMessage", "\x82\xff\x00\x00\x00\x00\x00\x10\x00\x01", 1009},
		{"2^63-1", "\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff", 1009},
		{"2^63", "\x82\xff\x80\x00\x00\x00\x00\x00\x00\x00", 1002},
		{"125 in two bytes", "\x82\xfe\x00\x7d", 1002},
		{"65535 in eight bytes", "\x82\xff\x00\x00\x00\x00\x00\x00\xff\xff", 1002},
		{"a control frame with two bytes of length", "\x89\xfe\x00\x7e", 1002},
	} {
		for _, c := range cuts(len(tt.wire)) {
			l := accepted(t, websocket.Options{})
			wire := []byte(tt.wire + "\x00\x00\x00\x00")
			if h := hear(t, l, wire, c, nil, false); code(h.err) != tt.code || len(h.messages) > 0 {
				t.Errorf("%s, %s: %v, want code %d", tt.name, c.name, h.err, tt.code)
			}
		}
	}
	noBuffers(t)
}

func TestAutobahn10AutoFragmentation(t *testing.T) {
	p := strings.Repeat("*", 65536)
	wsCase{id: "10.1.1", frames: split(text, p, 1300), messages: []string{aText(p)}}.run(t)
}

// A client's frames are masked and a server's are not: RFC 6455, section 5.1.
func TestMaskingIsRequiredOfClientsOnly(t *testing.T) {
	for _, f := range []frame{{fin | text, "a"}, {fin | ping, ""}, {fin | closeOp, ""}} {
		for _, client := range []bool{false, true} {
			l := accepted
			if client {
				l = dialled
			}
			for _, c := range cuts(10) {
				h := hear(t, l(t, websocket.Options{}), f.encode(client), c, nil, client)
				if code(h.err) != 1002 || errors.Is(h.err, io.EOF) || h.messages != nil {
					t.Errorf("client %v, %s: %v", client, c.name, h.err)
				}
			}
		}
	}
}
