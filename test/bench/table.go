// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"math"
	"strconv"

	"github.com/jedib0t/go-pretty/v6/table"
)

// report prints the medians, each with its ratio to kernel VXLAN, and below
// each other the ratios that say how vxtap stands to the others.
func report(w io.Writer, s settings, names []string, rows []*row) {
	t := table.NewWriter()
	t.SetOutputMirror(w)
	t.SetStyle(table.StyleLight)
	head := table.Row{"work", "between", ""}
	for _, name := range names {
		head = append(head, name)
	}
	t.AppendHeader(head)
	for _, r := range rows {
		line := table.Row{r.work.name, r.place, r.metric.name}
		for _, name := range names {
			line = append(line, cell(r, name))
		}
		t.AppendRow(line)
	}
	t.Render()
	fmt.Fprintf(w, "medians of %d interleaved rounds of %s, in brackets the ratio to %s\n%s\n", s.rounds, s.time, kernelName, machine())
}

// cell is one contestant's median, with its ratio to the kernel's.
func cell(r *row, name string) string {
	v := median(r.samples[name])
	if math.IsNaN(v) {
		return "-"
	}
	if ratio := v / median(r.samples[kernelName]); name != kernelName && !math.IsNaN(ratio) {
		return fmt.Sprintf("%s (%.2f)", figure(v), ratio)
	}
	return figure(v)
}

// figure writes a number with three digits that count.
func figure(v float64) string {
	switch {
	case v >= 100:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case v >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	case v >= 1:
		return strconv.FormatFloat(v, 'f', 2, 64)
	}
	return strconv.FormatFloat(v, 'f', 3, 64)
}
