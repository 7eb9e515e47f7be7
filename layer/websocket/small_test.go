package websocket_test

import (
	"bytes"
	"math/rand/v2"
	"testing"
	"unicode/utf8"

	"github.com/servercore-go/servercore/layer/websocket"
)

// xor is what RFC 6455, section 5.3, says byte by byte, for every length and however it is cut.
func TestXor(t *testing.T) {
	src := make([]byte, 200)
	for i := range src {
		src[i] = byte(rand.Uint32())
	}
	for n := range len(src) {
		key := rand.Uint32()
		want := make([]byte, n)
		for i := range want {
			want[i] = src[i] ^ byte(key>>(8*(i%4)))
		}
		for range 5 {
			at := rand.IntN(n + 1)
			got := bytes.Repeat([]byte{'.'}, n+1)
			next := websocket.Xor(got[:at], src[:at], key)
			websocket.Xor(got[at:], src[at:n], next)
			if !bytes.Equal(got[:n], want) || got[n] != '.' {
				t.Fatalf("%d bytes, cut at %d: %x, want %x", n, at, got, want)
			}
		}
	}
}

// validPrefix says of every beginning of a text what the text itself says, and of what cannot become text that it is none.
func TestValidPrefix(t *testing.T) {
	for _, s := range []string{"", "a", greek, "a\u00e9\u20ac\U0001F600z"} {
		for i := range len(s) + 1 {
			n, ok := websocket.ValidPrefix([]byte(s[:i]))
			if !ok || n > i || i-n > 3 || !utf8.ValidString(s[:n]) || (n == i) != utf8.ValidString(s[:i]) {
				t.Errorf("%q: %d, %v", s[:i], n, ok)
			}
		}
	}
	for group, payloads := range texts() {
		for _, s := range payloads {
			if n, ok := websocket.ValidPrefix([]byte(s)); (ok && n == len(s)) != utf8.ValidString(s) {
				t.Errorf("%s: %q: %d, %v", group, s, n, ok)
			}
		}
	}
}

func TestCutText(t *testing.T) {
	for _, tt := range []struct {
		s    string
		n    int
		want string
	}{{"abc", 3, "abc"}, {"abc", 2, "ab"}, {"a\u20ac", 3, "a"}, {"\u20ac", 2, ""}, {"\u20ac", 3, "\u20ac"}, {"", 0, ""}} {
		if got := websocket.CutText(tt.s, tt.n); got != tt.want {
			t.Errorf("%q to %d: %q", tt.s, tt.n, got)
		}
	}
}
