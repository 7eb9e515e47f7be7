package bench

import (
	"fmt"
	"html"
	"html/template"
)

// bars are horizontal bars of CPU time per message, each with a part for user and a part for system time.
type bars []bar

type bar struct {
	name         string
	user, system float64 // microseconds
	look         int
}

const (
	barRoom   = 46.0 // height of a bar with its text
	barThick  = 16.0
	barTop    = 8.0
	barMargin = 6.0
)

// draw returns the bars in one shape. The longest bar takes the whole width. The text is above its bar, so that neither limits the length
// of the other.
func (list bars) draw(s shape) template.HTML {
	s.height = barTop + barRoom*float64(len(list)) + barMargin
	s.class += " bars"
	v := &canvas{shape: s}
	v.open("CPU time per message, as bars")
	longest := 0.0
	for _, b := range list {
		longest = max(longest, b.user+b.system)
	}
	if longest == 0 {
		longest = 1
	}
	for i, b := range list {
		top := barTop + barRoom*float64(i)
		value := timeText(b.user + b.system)
		name := cut(b.name, int((s.width-textWidth(value)-20)/charWidth))
		v.text("bar-name", 0, top+12, "start", name)
		v.text("bar-value", s.width, top+12, "end", value)
		user, system := s.width*b.user/longest, s.width*b.system/longest
		fmt.Fprintf(v, `<rect class="bar l%d" x="0" y="%s" width="%s" height="%g"><title>user %s</title></rect>`,
			b.look%looks, coordinate(top+19), coordinate(user), barThick, html.EscapeString(timeText(b.user)))
		fmt.Fprintf(v, `<rect class="bar part l%d" x="%s" y="%s" width="%s" height="%g"><title>system %s</title></rect>`,
			b.look%looks, coordinate(user), coordinate(top+19), coordinate(system), barThick, html.EscapeString(timeText(b.system)))
	}
	return v.close()
}

func (list bars) both() template.HTML { return list.draw(wide) + list.draw(slim) }

// cut shortens s to n characters. It keeps the end, where file names differ.
func cut(s string, n int) string {
	r := []rune(s)
	if len(r) <= n {
		return s
	}
	return "…" + string(r[len(r)-max(n-1, 0):])
}
