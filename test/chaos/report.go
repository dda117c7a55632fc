// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"time"

	"vxtap/test/document"
)

// figures are what came out of a run.
type figures struct {
	settings   settings
	rounds     int
	took       time.Duration
	faults     map[kind]int
	checks     map[invariant]int
	excused    int
	pings      int
	converged  time.Duration // the longest until a daemon's table was etcd's, after a last fault
	whole      time.Duration // the longest until every host held a lease again
	mib        float64       // of the largest daemon, at the end
	violations []violation
}

// line is what is said after a round.
func (f figures) line(j *judge) string {
	faults := 0
	for _, n := range f.faults {
		faults += n
	}
	return fmt.Sprintf("%d faults so far, %d checks, tables right after at most %v, all leases held after at most %v, %d violations",
		faults, total(j.checks), f.converged.Round(time.Millisecond), f.whole.Round(time.Millisecond), len(j.violations))
}

func total(m map[invariant]int) (n int) {
	for _, v := range m {
		n += v
	}
	return n
}

// rows are the figures, each with its name.
func (f figures) rows() [][2]string {
	var rows [][2]string
	row := func(name, format string, args ...any) {
		rows = append(rows, [2]string{name, fmt.Sprintf(format, args...)})
	}
	row("time, rounds", "%v, %d", f.took.Round(time.Second), f.rounds)
	for _, k := range kinds(f.settings.dual) {
		row("fault: "+string(k.kind), "%d", f.faults[k.kind])
	}
	for _, i := range invariants() {
		row("checks of "+string(i), "%d", f.checks[i])
	}
	row("pings between hosts, after last faults", "%d", f.pings)
	row("longest time from a last fault to right tables everywhere", "%.2f s", f.converged.Seconds())
	row("longest time from a last fault to a lease on every host", "%.1f s", f.whole.Seconds())
	row("claims of a host that could not know", "%d", f.excused)
	row("memory of the largest daemon at the end", "%.0f MiB", f.mib)
	row("violations", "%d", len(f.violations))
	return rows
}

// write writes the figures for people.
func (f figures) write(w io.Writer) {
	for _, r := range f.rows() {
		fmt.Fprintf(w, "%-62s %s\n", r[0], r[1])
	}
}

// markdown writes the figures as a table, with the command that makes them.
func (f figures) markdown(w io.Writer) {
	fmt.Fprint(w, "| figure | |\n|---|---|\n")
	for _, r := range f.rows() {
		fmt.Fprintf(w, "| %s | %s |\n", r[0], r[1])
	}
	fmt.Fprintf(w, "\nMade by `go run ./test/chaos %s`.\n", strings.Join(f.settings.args, " "))
}

// insert puts the figures between their marks in the file name.
func (f figures) insert(name string) error {
	var text bytes.Buffer
	f.markdown(&text)
	return document.Insert(name, f.settings.mark(), text.Bytes())
}
