// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/xml"
	"fmt"
	"math"
	"slices"
	"strings"
)

// Measures of the picture, in pixels.
const (
	labelWidth = 190 // of the works' names, left of both panels
	panelWidth = 360
	panelGap   = 36
	barHeight  = 12
	barPitch   = 13
	groupGap   = 18
	textHeight = 42  // of a work's name and the kernel's figures in both places
	topHeight  = 108 // title, legend and the panels' titles
	margin     = 16
	valueWidth = 25 // of a number beside a bar
)

// maxScale bounds the axis: what is longer is cut off, and its number says so.
const maxScale = 2.5

// style has both looks. The ground is painted: a page whose theme is not the
// browser's must not leave dark text on dark.
const style = `
svg { font-family: system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; font-size: 12px }
.ground { fill: #ffffff } text { fill: #1f2328 } .soft { fill: #59636e } .grid { stroke: #d8dee4 } .one { stroke: #1f2328 }
.value { stroke: #ffffff }
@media (prefers-color-scheme: dark) {
.ground { fill: #0d1117 } text { fill: #e6edf3 } .soft { fill: #9198a1 } .grid { stroke: #2a313c } .one { stroke: #e6edf3 }
.value { stroke: #0d1117 }
}
.title { font-size: 16px; font-weight: 600 } .name { font-weight: 600 } .small { font-size: 11px } .value { font-size: 10.5px; stroke-width: 3px; paint-order: stroke }
`

// colours keep apart on light and on dark, and for most who see few of them
// (after Okabe and Ito).
func colour(name string) string {
	switch name {
	case relayName:
		return "#8c959f"
	case vxtapName:
		return "#1f83d6"
	case otherName:
		return "#d55e00"
	case plainName:
		return "#7fc4ee"
	case ovsName:
		return "#e0a000"
	case intoName:
		return "#00976d"
	default:
		return "#c46ba3"
	}
}

// meaning is a contestant's name for those who have read nothing else.
func meaning(name string) string {
	switch name {
	case relayName:
		return "relay: moves bytes only"
	case plainName:
		return "vxtap, no offloads"
	case ovsName:
		return "Open vSwitch, userspace"
	case intoName:
		return "kernel to vxtap"
	case outOfName:
		return "vxtap to kernel"
	default:
		return name
	}
}

// group is the bars of one work: what its name is, its rows by place, of which
// one may be missing, and who has a bar in any of them.
type group struct {
	title string
	rows  map[place]*row
	bars  []string
	y     int // of its top
}

// height is that of the bars, or of the text beside them.
func (g group) height() int { return max(len(g.bars)*barPitch, textHeight) + groupGap }

// chart is the picture while it is drawn.
type chart struct {
	results
	groups []group
	bars   []string // names of contestants, one bar each
	scale  float64  // the ratio at a panel's right edge
	bottom int      // below the last group
	w      strings.Builder
}

// picture draws every contestant's figures as ratios to the kernel's. Where
// less is better it is the kernel's that is divided, so that a longer bar is
// always the better one.
func (r results) picture() string {
	c := &chart{results: r, scale: 1.25}
	c.bars = slices.DeleteFunc(slices.Clone(r.names), func(name string) bool { return name == kernelName })
	for _, row := range r.rows {
		if row.charted && !math.IsNaN(row.median(kernelName)) {
			c.add(row)
		}
	}
	c.bottom = topHeight
	for i := range c.groups {
		g := &c.groups[i]
		for _, name := range c.bars {
			best := math.NaN()
			for _, row := range g.rows {
				if v := better(row, name); math.IsNaN(best) || v > best {
					best = v
				}
			}
			if math.IsNaN(best) {
				continue // no room for a bar that is never there
			}
			g.bars = append(g.bars, name)
			if best > c.scale {
				c.scale = min(maxScale, math.Ceil(best*4)/4)
			}
		}
		g.y, c.bottom = c.bottom, c.bottom+g.height()
	}
	c.draw()
	return c.w.String()
}

// add puts a row into its group: the same metric of the same work in another
// place, or a new one.
func (c *chart) add(r *row) {
	title := r.work.name
	if r.short != "" {
		title += ", " + r.short
	}
	i := slices.IndexFunc(c.groups, func(g group) bool { return g.title == title })
	if i < 0 {
		i = len(c.groups)
		c.groups = append(c.groups, group{title: title, rows: map[place]*row{}})
	}
	c.groups[i].rows[r.place] = r
}

// better returns how much better than the kernel a contestant is.
func better(r *row, name string) float64 {
	if r.lower {
		return r.ratio(kernelName, name)
	}
	return r.ratio(name, kernelName)
}

func (c *chart) draw() {
	width := margin + labelWidth + 2*panelWidth + panelGap + margin + 20
	height := c.bottom + 46
	fmt.Fprintf(&c.w, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img">`+"\n", width, height, width, height)
	fmt.Fprintf(&c.w, "<title>Works of all contestants as ratios to kernel VXLAN</title>\n<style>%s</style>\n", style)
	fmt.Fprintf(&c.w, `<rect class="ground" width="%d" height="%d"/>`+"\n", width, height)
	c.text(margin, 30, "title", "start", "Beside kernel VXLAN (= 1): longer is better, also for latency")
	c.legend()
	for i, p := range []place{containers, hosts} {
		c.panel(p, margin+labelWidth+i*(panelWidth+panelGap))
	}
	for _, g := range c.groups {
		c.text(margin, g.y+barHeight-1, "name", "start", g.title)
		for i, line := range g.kernel() {
			c.text(margin, g.y+barHeight+14+14*i, "soft small", "start", line)
		}
	}
	c.text(margin, height-30, "soft small", "start", c.settings.method()+"; "+c.conditions()[1])
	c.text(margin, height-14, "soft small", "start", "The CPU time that daemons take is not in the picture: the kernel has none to compare with. The table has it.")
	c.w.WriteString("</svg>\n")
}

// kernel returns the kernel's own figures, for those who want to know what 1 is,
// a line for each place.
func (g group) kernel() []string {
	var lines []string
	for _, p := range []place{containers, hosts} {
		if r := g.rows[p]; r != nil {
			lines = append(lines, fmt.Sprintf("kernel, %s: %s %s", p, figure(r.median(kernelName)), r.unit))
		}
	}
	return lines
}

func (c *chart) legend() {
	x := margin
	for _, name := range c.bars {
		fmt.Fprintf(&c.w, `<rect x="%d" y="48" width="12" height="12" rx="2" fill="%s"/>`+"\n", x, colour(name))
		c.text(x+17, 58, "", "start", meaning(name))
		x += 17 + 7*len(meaning(name)) + 14
	}
}

// panel draws one place's axis and bars, from x on.
func (c *chart) panel(p place, x int) {
	at := func(ratio float64) float64 { return float64(x) + min(ratio, c.scale)/c.scale*panelWidth }
	top, bottom := topHeight-8, c.bottom-groupGap+6
	c.text(x, topHeight-26, "name", "start", "between "+string(p))
	for step := 0; float64(step)/4 <= c.scale; step++ {
		ratio := float64(step) / 4
		class := "grid"
		if ratio == 1 {
			class = "one"
		}
		fmt.Fprintf(&c.w, `<line class="%s" x1="%.1f" x2="%.1f" y1="%d" y2="%d"/>`+"\n", class, at(ratio), at(ratio), top, bottom)
		if step%2 == 0 {
			c.text(int(at(ratio)), topHeight-12, "soft small", "middle", fmt.Sprint(ratio))
		}
	}
	for _, g := range c.groups {
		for j, name := range g.bars {
			if r := g.rows[p]; r != nil && !math.IsNaN(better(r, name)) {
				v, y := better(r, name), g.y+j*barPitch
				fmt.Fprintf(&c.w, `<rect x="%d" y="%d" width="%.1f" height="%d" rx="1.5" fill="%s"/>`+"\n", x, y, at(v)-float64(x), barHeight, colour(name))
				// A number of which the line at 1 would go through stands behind it.
				left, one := int(at(v))+4, int(at(1))
				if left <= one && left+valueWidth > one {
					left = one + 4
				}
				c.text(left, y+barHeight-2, "value", "start", fmt.Sprintf("%.2f", v))
			}
		}
	}
}

// text writes one line of text, escaped.
func (c *chart) text(x, y int, class, anchor, text string) {
	fmt.Fprintf(&c.w, `<text x="%d" y="%d" class="%s" text-anchor="%s">`, x, y, class, anchor)
	_ = xml.EscapeText(&c.w, []byte(text)) // a strings.Builder takes everything
	c.w.WriteString("</text>\n")
}
