// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"strconv"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
)

// writeTable prints the figures, and below how they stand to what is to be
// reached.
func (r results) writeTable(w io.Writer) {
	t := newTable(w, append([]string{"work", "between", ""}, r.head()...))
	for i, row := range r.rows {
		if i > 0 && row.place != r.rows[i-1].place {
			t.AppendSeparator()
		}
		t.AppendRow(line(append([]string{row.work.name, string(row.place), row.metric.name}, r.cells(row)...)))
	}
	t.Render()
	for _, sentence := range r.conditions() {
		fmt.Fprintln(w, sentence)
	}
	verdicts := r.verdicts()
	if len(verdicts) == 0 {
		return
	}
	t = newTable(w, verdicts[0])
	for _, v := range verdicts[1:] {
		t.AppendRow(line(v))
	}
	t.Render()
}

func newTable(w io.Writer, head []string) table.Writer {
	t := table.NewWriter()
	t.SetOutputMirror(w)
	t.SetStyle(table.StyleLight)
	t.Style().Format.Header = text.FormatDefault
	t.AppendHeader(line(head))
	return t
}

func line(cells []string) table.Row {
	row := make(table.Row, len(cells))
	for i, cell := range cells {
		row[i] = cell
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
