package websocket_test

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/servercore-go/servercore/layer/websocket"
)

const greek = "\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5" // five letters of 2, 3, 2, 2, 2 bytes

// texts are the payloads of group 6; whether each is text is utf8.Valid's word.
func texts() map[string][]string {
	var prefixes, lonely, nonCharacters []string
	for i := 1; i <= len(greek); i++ {
		prefixes = append(prefixes, greek[:i])
	}
	for _, r := range [][2]int{{0xC0, 0xDF}, {0xE0, 0xEF}, {0xF0, 0xF7}, {0xF8, 0xFB}, {0xFC, 0xFD}} {
		var b strings.Builder
		for c := r[0]; c <= r[1]; c++ {
			b.WriteByte(byte(c))
			b.WriteByte(' ')
		}
		lonely = append(lonely, b.String())
	}
	for plane := range rune(17) {
		nonCharacters = append(nonCharacters, string(plane<<16|0xFFFE), string(plane<<16|0xFFFF))
	}
	continuations := []string{"\x80", "\xbf"}
	for i := 2; i <= 6; i++ {
		continuations = append(continuations, "\x80\xbf\x80\xbf\x80\xbf"[:i])
	}
	var all strings.Builder
	for c := 0x80; c <= 0xBF; c++ {
		all.WriteByte(byte(c))
	}
	cut := []string{"\xc0", "\xe0\x80", "\xf0\x80\x80", "\xf8\x80\x80\x80", "\xfc\x80\x80\x80\x80", "\xdf", "\xef\xbf", "\xf7\xbf\xbf", "\xfb\xbf\xbf\xbf",
		"\xfd\xbf\xbf\xbf\xbf"}
	return map[string][]string{
		"6.2":  {"Hello-\xc2\xb5@\xc3\x9f\xc3\xb6\xc3\xa4\xc3\xbc\xc3\xa0\xc3\xa1-UTF-8!!"},
		"6.3":  {greek + "\xed\xa0\x80edited"},
		"6.5":  {"hello$world", "hello\xc2\xa2world", "hello\xe2\x82\xacworld", "hello\xf0\xa4\xad\xa2world", greek},
		"6.6":  prefixes,
		"6.7":  {"\x00", "\xc2\x80", "\xe0\xa0\x80", "\xf0\x90\x80\x80"},
		"6.8":  {"\xf8\x88\x80\x80\x80", "\xfc\x84\x80\x80\x80\x80"},
		"6.9":  {"\x7f", "\xdf\xbf", "\xef\xbf\xbf", "\xf4\x8f\xbf\xbf"},
		"6.10": {"\xf7\xbf\xbf\xbf", "\xfb\xbf\xbf\xbf\xbf", "\xfd\xbf\xbf\xbf\xbf\xbf"},
		"6.11": {"\xed\x9f\xbf", "\xee\x80\x80", "\xef\xbf\xbd", "\xf4\x8f\xbf\xbf", "\xf4\x90\x80\x80"},
		"6.12": append(continuations, all.String()),
		"6.13": lonely,
		"6.14": cut,
		"6.15": {strings.Join(cut, "")},
		"6.16": {"\xfe", "\xff", "\xfe\xfe\xff\xff"},
		"6.17": {"\xc0\xaf", "\xe0\x80\xaf", "\xf0\x80\x80\xaf", "\xf8\x80\x80\x80\xaf", "\xfc\x80\x80\x80\x80\xaf"},
		"6.18": {"\xc1\xbf", "\xe0\x9f\xbf", "\xf0\x8f\xbf\xbf", "\xf8\x87\xbf\xbf\xbf", "\xfc\x83\xbf\xbf\xbf\xbf"},
		"6.19": {"\xc0\x80", "\xe0\x80\x80", "\xf0\x80\x80\x80", "\xf8\x80\x80\x80\x80", "\xfc\x80\x80\x80\x80\x80"},
		"6.20": {"\xed\xa0\x80", "\xed\xad\xbf", "\xed\xae\x80", "\xed\xaf\xbf", "\xed\xb0\x80", "\xed\xbe\x80", "\xed\xbf\xbf"},
		"6.21": {"\xed\xa0\x80\xed\xb0\x80", "\xed\xa0\x80\xed\xbf\xbf", "\xed\xad\xbf\xed\xb0\x80", "\xed\xad\xbf\xed\xbf\xbf",
			"\xed\xae\x80\xed\xb0\x80", "\xed\xae\x80\xed\xbf\xbf", "\xed\xaf\xbf\xed\xb0\x80", "\xed\xaf\xbf\xed\xbf\xbf"},
		"6.22": nonCharacters,
		"6.23": {"\xef\xbf\xb9", "\xef\xbf\xba", "\xef\xbf\xbb", "\xef\xbf\xbc", "\xef\xbf\xbd", "\xef\xbf\xbe", "\xef\xbf\xbf"},
	}
}

func TestAutobahn6UTF8(t *testing.T) {
	for group, payloads := range texts() {
		for i, p := range payloads {
			c := wsCase{messages: []string{aText(p)}}
			if !utf8.ValidString(p) {
				c.messages, c.code = nil, 1007
			}
			for how, frames := range map[string][]frame{
				"whole": {{fin | text, p}}, "in two": {{text, p[:len(p)/2]}, {fin | cont, p[len(p)/2:]}}, "a byte a frame": split(text, p, 1),
			} {
				c.id, c.frames = fmt.Sprintf("%s.%d %s", group, i+1, how), frames
				switch group { // whose cases are the ways of cutting, and not the texts
				case "6.2":
					c.id = map[string]string{"whole": "6.2.1", "in two": "6.2.2 and 6.2.4", "a byte a frame": "6.2.3"}[how]
				case "6.3":
					c.id = map[string]string{"whole": "6.3.1", "in two": "6.3, in two", "a byte a frame": "6.3.2"}[how]
				}
				c.run(t)
			}
		}
	}
	for _, c := range []wsCase{
		{id: "6.1.1", frames: []frame{{fin | text, ""}}, messages: []string{aText("")}},
		{id: "6.1.2", frames: []frame{{text, ""}, {cont, ""}, {fin | cont, ""}}, messages: []string{aText("")}},
		{id: "6.1.3", frames: []frame{{text, ""}, {cont, "middle frame payload"}, {fin | cont, ""}}, messages: []string{aText("middle frame payload")}},
	} {
		c.run(t)
	}
}

// Text that cannot become valid is refused before the rest of its message, or of its frame, has come.
func TestAutobahn6FailsFast(t *testing.T) {
	for _, tt := range []struct {
		name  string
		parts []string // what of the message comes before Open must refuse it, each in a frame or in a piece of one
	}{
		{"6.4.1 and 6.4.3", []string{greek, "\xf4\x90"}}, // U+110000
		{"6.4.2 and 6.4.4", []string{greek + "\xf4", "\x90"}},
		{"6.4, a surrogate", []string{"a\xed", "\xa0"}},
		{"6.4, no character begins so", []string{"a", "\xff"}},
		{"6.4, a long message", []string{strings.Repeat("a", 100_000), "\xc0"}},
	} {
		note(t, numbers(tt.name)...)
		fragments := accepted(t, websocket.Options{})
		inFrame := accepted(t, websocket.Options{})
		whole := frame{fin | text, strings.Join(tt.parts, "") + strings.Repeat("z", 1000)}.encode(true)
		offset := len(whole) - 1000 - len(strings.Join(tt.parts, ""))
		for i, p := range tt.parts {
			f := frame{cont, p}
			if i == 0 {
				f.first = text
			}
			_, _, _, err := fragments.Open(nil, f.encode(true))
			_, _, _, err2 := inFrame.Open(nil, whole[:offset+len(p)])
			whole, offset = whole[offset+len(p):], 0
			if want := i == len(tt.parts)-1; (code(err) == 1007) != want || (code(err2) == 1007) != want {
				t.Errorf("%s: part %d: %v, and in one frame %v", tt.name, i, err, err2)
			}
		}
		fragments.Drop()
		inFrame.Drop()
	}
	noBuffers(t)
}
