package bench

import (
	"fmt"
	"html"
	"html/template"
	"strings"
)

// A chart is drawn as SVG, once for each shape in which a page shows it, because text in a drawing that is scaled down to a phone cannot
// be read. Colours, dashes and fonts are classes, which page.html defines for light and dark mode.
type chart struct {
	label string // read by screen readers
	x, y  axis
	lines []line
	marks []mark
	limit *limit
	hits  []hit
}

// A line has the look of its class, which is 0 to looks-1.
type line struct {
	name string
	look int
	area bool // filled down to the axis
	at   []point
}

// With gap, no line leads to the point from the one before.
type point struct {
	x, y float64
	gap  bool
}

// A mark is a highlighted point. Its shape is that of its look, or a cross for a failure.
type mark struct {
	x, y  float64
	look  int
	cross bool
	text  string // shown when pointed at
}

type limit struct {
	y     float64
	label string
}

// A hit is a part of the x axis that shows its figures when the mouse is over it.
type hit struct {
	from, to float64
	text     string
}

// looks is the number of lines that can be distinguished, by colour, dash and mark.
const looks = 6

// shape is the size of a drawing, in CSS pixels at a scale of 1.
type shape struct {
	class         string
	width, height float64
}

var (
	wide = shape{"wide", 520, 262}
	slim = shape{"slim", 336, 250}
	tall = shape{"wide", 520, 396} // beside a table
)

// Sizes of text in a drawing. The width of a character is that of the widest font that a browser may choose for system-ui.
const (
	charWidth  = 7.2
	lineHeight = 15.0
)

func textWidth(s string) float64 { return charWidth * float64(len([]rune(s))) }

// A canvas is a chart being drawn.
type canvas struct {
	strings.Builder
	c                        *chart
	shape                    shape
	left, right, top, bottom float64 // edges of the plot
}

// both returns the chart in both shapes.
func (c *chart) both() template.HTML { return c.draw(wide) + c.draw(slim) }

// high is both, with more height on a wide screen.
func (c *chart) high() template.HTML { return c.draw(tall) + c.draw(slim) }

// draw returns the chart as an svg element. All text in it is escaped here.
func (c *chart) draw(s shape) template.HTML {
	v := &canvas{c: c, shape: s, top: 28, bottom: s.height - 40, right: s.width - 12}
	for _, t := range c.y.ticks {
		v.left = max(v.left, textWidth(t.label)+10)
	}
	v.open(c.label)
	v.yAxis()
	v.xAxis()
	for i := len(c.lines) - 1; i >= 0; i-- { // the first line is the most important: draw it last, on top
		v.line(&c.lines[i])
	}
	if l := c.limit; l != nil {
		y := v.y(l.y)
		fmt.Fprintf(v, `<path class="limit" d="M%s %sH%s"/>`, coordinate(v.left), coordinate(y), coordinate(v.right))
		v.text("limit-label", v.left+6, y-5, "start", l.label)
	}
	if s.class == wide.class { // hits need a mouse
		v.hits()
	}
	for _, m := range c.marks {
		v.mark(m)
	}
	return v.close()
}

func (v *canvas) open(label string) {
	fmt.Fprintf(v, `<svg class="%s" viewBox="0 0 %g %g" role="img" aria-label="%s">`, v.shape.class, v.shape.width, v.shape.height, html.EscapeString(label))
}

func (v *canvas) close() template.HTML {
	v.WriteString("</svg>\n")
	return template.HTML(v.String())
}

func (v *canvas) text(class string, x, y float64, anchor, s string) {
	fmt.Fprintf(v, `<text class="%s" x="%s" y="%s" text-anchor="%s">%s</text>`, class, coordinate(x), coordinate(y), anchor, html.EscapeString(s))
}

func (v *canvas) x(value float64) float64 { return v.left + v.c.x.place(value)*(v.right-v.left) }
func (v *canvas) y(value float64) float64 { return v.bottom - v.c.y.place(value)*(v.bottom-v.top) }

func (v *canvas) yAxis() {
	v.text("axis", 0, 12, "start", v.c.y.title)
	var taken []float64
	for _, t := range v.c.y.ticks {
		y := v.bottom - t.at*(v.bottom-v.top)
		class := "grid"
		if t.at == 0 {
			class = "base"
		}
		fmt.Fprintf(v, `<path class="%s" d="M%s %sH%s"/>`, class, coordinate(v.left), coordinate(y), coordinate(v.right))
		if t.label != "" && free(&taken, y, lineHeight) {
			v.text("tick", v.left-7, y+4, "end", t.label)
		}
	}
}

func (v *canvas) xAxis() {
	fmt.Fprintf(v, `<path class="base" d="M%s %sH%s"/>`, coordinate(v.left), coordinate(v.bottom), coordinate(v.right))
	var taken []span
	for _, t := range v.c.x.ticks {
		x := v.left + t.at*(v.right-v.left)
		fmt.Fprintf(v, `<path class="grid" d="M%s %sV%s"/>`, coordinate(x), coordinate(v.top), coordinate(v.bottom+4))
		half := textWidth(t.label) / 2
		x = max(half, min(v.shape.width-half, x)) // move a label at an edge inwards
		if t.label != "" && fits(&taken, span{x - half - 4, x + half + 4}) {
			v.text("tick", x, v.bottom+18, "middle", t.label)
		}
	}
	v.text("axis", (v.left+v.right)/2, v.shape.height-5, "middle", v.c.x.title)
}

type span struct{ from, to float64 }

// fits reserves the place and returns true if it touches no reserved place.
func fits(taken *[]span, s span) bool {
	for _, t := range *taken {
		if s.from < t.to && t.from < s.to {
			return false
		}
	}
	*taken = append(*taken, s)
	return true
}

// free reserves the place and returns true if its distance to every reserved place is gap or more.
func free(taken *[]float64, at, gap float64) bool {
	for _, t := range *taken {
		if at-t < gap && t-at < gap {
			return false
		}
	}
	*taken = append(*taken, at)
	return true
}

func (v *canvas) line(l *line) {
	if len(l.at) == 0 {
		return
	}
	var path, area strings.Builder
	begin := 0.0
	for i, p := range l.at {
		x, y := v.x(p.x), v.y(p.y)
		if p.gap || i == 0 {
			// h0: a point with a gap on both sides is still a dot.
			fmt.Fprintf(&path, "M%s %sh0", coordinate(x), coordinate(y))
			fmt.Fprintf(&area, "M%s %sV%s", coordinate(x), coordinate(v.bottom), coordinate(y))
			begin = x
		} else {
			fmt.Fprintf(&path, "L%s %s", coordinate(x), coordinate(y))
			fmt.Fprintf(&area, "L%s %s", coordinate(x), coordinate(y))
		}
		if i+1 == len(l.at) || l.at[i+1].gap {
			fmt.Fprintf(&area, "V%sH%sZ", coordinate(v.bottom), coordinate(begin))
		}
	}
	if l.area {
		fmt.Fprintf(v, `<path class="area l%d" d="%s"/>`, l.look%looks, area.String())
	}
	fmt.Fprintf(v, `<path class="line l%d" d="%s"/>`, l.look%looks, path.String())
}

func (v *canvas) mark(m mark) {
	class, shape := fmt.Sprintf("mark l%d", m.look%looks), markShape(m.look)
	if m.cross {
		class, shape = "cross", "M-4.5 -4.5L4.5 4.5M4.5 -4.5L-4.5 4.5"
	}
	fmt.Fprintf(v, `<path class="%s" transform="translate(%s %s)" d="%s"><title>%s</title></path>`,
		class, coordinate(v.x(m.x)), coordinate(v.y(m.y)), shape, html.EscapeString(m.text))
}

// markShape is the outline of a look's mark, around the point 0 0.
func markShape(look int) string {
	return [looks]string{
		"M-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0Z",                          // circle
		"M-3.6 -3.6H3.6V3.6H-3.6Z",                                     // square
		"M0 -5L5 0L0 5L-5 0Z",                                          // diamond
		"M0 -4.8L4.6 3.6H-4.6Z",                                        // triangle
		"M0 4.8L4.6 -3.6H-4.6Z",                                        // triangle, upside down
		"M-1.5 -4.5H1.5V-1.5H4.5V1.5H1.5V4.5H-1.5V1.5H-4.5V-1.5H-1.5Z", // plus
	}[look%looks]
}

func (v *canvas) hits() {
	for _, h := range v.c.hits {
		from, to := v.x(h.from), v.x(h.to)
		fmt.Fprintf(v, `<rect class="hit" x="%s" y="%s" width="%s" height="%s"><title>%s</title></rect>`,
			coordinate(from), coordinate(v.top), coordinate(to-from), coordinate(v.bottom-v.top), html.EscapeString(h.text))
	}
}

// sample returns a small drawing of a line's look, for a legend.
func sample(look int, marked bool) template.HTML {
	s := fmt.Sprintf(`<svg class="sample" viewBox="0 0 30 12" aria-hidden="true"><path class="line l%d" d="M1 6H29"/>`, look%looks)
	if marked {
		s += fmt.Sprintf(`<path class="mark l%d" transform="translate(15 6)" d="%s"/>`, look%looks, markShape(look))
	}
	return template.HTML(s + "</svg>")
}
