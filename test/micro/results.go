// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
)

// results has what the benchmarks said.
type results struct {
	cases   []*result
	machine string
}

// result is one case of one benchmark.
type result struct {
	benchmark, work string
	ns              []float64 // for a frame, by round
	allocs          float64   // for a run, the most of all rounds
}

// parse adds the output of one go test -bench -benchmem.
func (r *results) parse(out []byte) error {
	lines := bufio.NewScanner(bytes.NewReader(out))
	for lines.Scan() {
		line := lines.Text()
		if cpu, ok := strings.CutPrefix(line, "cpu: "); ok {
			r.machine = cpu
		}
		if !strings.HasPrefix(line, "Benchmark") {
			continue
		}
		if err := r.parseLine(line); err != nil {
			return fmt.Errorf("benchmark line %q: %w", line, err)
		}
	}
	return lines.Err()
}

// parseLine reads a line in the form that
// https://go.dev/design/14313-benchmark-format gives: the name, how many runs,
// and pairs of a value and its unit.
func (r *results) parseLine(line string) error {
	fields := strings.Fields(line)
	if len(fields) < 4 || len(fields)%2 != 0 {
		return errors.New("not a name, a count and pairs of value and unit")
	}
	name := strings.TrimPrefix(fields[0], "Benchmark")
	if i := strings.LastIndexByte(name, '-'); i > 0 { // the number of processors
		name = name[:i]
	}
	units := map[string]float64{}
	for i := 2; i < len(fields); i += 2 {
		v, err := strconv.ParseFloat(fields[i], 64)
		if err != nil {
			return err
		}
		units[fields[i+1]] = v
	}
	ns, ok := units["ns/frame"]
	if !ok {
		ns, ok = units["ns/op"]
	}
	allocs, measured := units["allocs/op"]
	if !ok || !measured {
		return errors.New("no time, or no allocations")
	}
	c := r.of(name)
	c.ns = append(c.ns, ns)
	c.allocs = max(c.allocs, allocs)
	return nil
}

// of returns the result of the benchmark case name, a new one the first time.
func (r *results) of(name string) *result {
	benchmark, work, _ := strings.Cut(strings.ReplaceAll(name, "_", " "), "/")
	for _, c := range r.cases {
		if c.benchmark == benchmark && c.work == work {
			return c
		}
	}
	c := &result{benchmark: benchmark, work: work}
	r.cases = append(r.cases, c)
	return c
}

// bound returns what c may take, if there is a bound.
func (c *result) bound() (bound, bool) {
	b, ok := bounds[c.benchmark+"/"+c.work]
	return b, ok
}

// verdict compares c with its bound in a word or two.
func (c *result) verdict() string {
	b, ok := c.bound()
	switch ns := median(c.ns); {
	case !ok:
		return ""
	case ns <= b.goal:
		return "goal reached"
	case ns <= b.least:
		return "reached"
	}
	return "MISSED"
}

// faults names what no machine excuses.
func (r *results) faults() error {
	var errs []error
	missing := func(name string) { errs = append(errs, fmt.Errorf("no benchmark has measured %s", name)) }
	for _, s := range stages {
		if !slices.ContainsFunc(r.cases, func(c *result) bool { return c.benchmark == s.benchmark }) {
			missing(s.benchmark)
		}
	}
	for name := range bounds {
		if !slices.ContainsFunc(r.cases, func(c *result) bool { return c.benchmark+"/"+c.work == name }) {
			missing(name)
		}
	}
	for _, c := range r.cases {
		if c.allocs != 0 {
			errs = append(errs, fmt.Errorf("%s/%s allocates %v times a run", c.benchmark, c.work, c.allocs))
		}
	}
	return errors.Join(errs...)
}

// render prints the table.
func render(w io.Writer, r *results) {
	t := table.NewWriter()
	t.SetOutputMirror(w)
	t.SetStyle(table.StyleLight)
	t.AppendHeader(table.Row{"stage", "of what", "ns a frame", "allocations", "at least", "goal", ""})
	t.SetColumnConfigs([]table.ColumnConfig{
		{Number: 3, Align: text.AlignRight}, {Number: 4, Align: text.AlignRight},
		{Number: 5, Align: text.AlignRight}, {Number: 6, Align: text.AlignRight},
	})
	for _, s := range stages {
		name := s.name
		for _, c := range r.cases {
			if c.benchmark != s.benchmark {
				continue
			}
			row := table.Row{name, c.work, fmt.Sprintf("%.1f", median(c.ns)), c.allocs, "", "", c.verdict()}
			if b, ok := c.bound(); ok {
				row[4], row[5] = b.least, b.goal
			}
			t.AppendRow(row)
			name = ""
		}
		t.AppendSeparator()
	}
	t.Render()
}

func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	v = slices.Sorted(slices.Values(v))
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}
