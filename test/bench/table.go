// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"strconv"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
)

// writeTable prints the figures, and how they stand to what is to be reached.
func (r results) writeTable(w io.Writer) {
	t := table.NewWriter()
	t.SetOutputMirror(w)
	t.SetStyle(table.StyleLight)
	t.Style().Format.Header = text.FormatDefault
	t.AppendHeader(columns("work", "between", "", r.head()))
	for i, row := range r.rows {
		if i > 0 && row.place != r.rows[i-1].place {
			t.AppendSeparator()
		}
		t.AppendRow(columns(row.work.name, string(row.place), row.metric.name, r.cells(row)))
	}
	t.Render()
	for _, line := range r.conditions() {
		fmt.Fprintln(w, line)
	}
}

func columns(work, between, metric string, rest []string) table.Row {
	row := table.Row{work, between, metric}
	for _, cell := range rest {
		row = append(row, cell)
	}
	return row
}

// figure writes a number with three digits that count.
func figure(v float64) string {
	digits := 3
	for limit := 1.0; digits > 0 && v >= limit; limit *= 10 {
		digits--
	}
	return strconv.FormatFloat(v, 'f', digits, 64)
}
