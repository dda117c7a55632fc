// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"vxtap/test/document"
)

// What is to be reached.
const (
	startLimit  = 2 * time.Second
	memoryLimit = 64.0 // MiB
	dualMemory  = 96.0 // MiB, of twice as many subnets
	changeLimit = 10 * time.Millisecond
	nodesLimit  = 15 * time.Second
)

// figures are what was measured.
type figures struct {
	settings settings

	// One daemon among many leases.
	starts  []time.Duration // from the start of the process, etcd answering already
	returns []time.Duration // from when etcd answers, the daemon waiting already
	changes []time.Duration // from the event in a watch of the test's own
	puts    []time.Duration // the same changes, from the return of the write
	few     float64         // MiB with ten leases
	many    float64         // MiB with all of them, after the changes
	kernel  [2]kernel       // with two peers, with all of them

	// Many daemons.
	ready    time.Duration // from the first start to the last that is ready
	distinct int           // subnets
}

// kernel is what the host's kernel has of the overlay.
type kernel struct{ routes, neighbours int }

// String returns it for a table.
func (k kernel) String() string { return fmt.Sprintf("%d, %d", k.routes, k.neighbours) }

// row is one figure. ok is whether it is within its limit.
type row struct {
	what, got, limit string
	ok               bool
}

// rows returns all that was measured.
func (f figures) rows() []row {
	var rows []row
	if f.settings.leases > 0 {
		worst, back := slices.Max(f.starts), slices.Max(f.returns)
		p50, p99 := quantile(f.changes, 50), quantile(f.changes, 99)
		n, most := f.settings.leases, memoryLimit
		if f.settings.dual {
			most = dualMemory
		}
		rows = append(rows,
			row{fmt.Sprintf("%d leases: from the start of the daemon to the first packet, longest of %d", n, len(f.starts)), millis(worst), "2 s", worst <= startLimit},
			row{"from when etcd answers to the first packet of a daemon that waits, longest", millis(back), "2 s", back <= startLimit},
			row{fmt.Sprintf("memory with 10 leases, with %d: difference", n), fmt.Sprintf("%.1f MiB, %.1f MiB: %.1f MiB", f.few, f.many, f.many-f.few), fmt.Sprintf("%.0f MiB", most), f.many-f.few <= most},
			row{fmt.Sprintf("a change of one lease applied, p99 of %d (p50)", len(f.changes)), fmt.Sprintf("%s (%s)", millis(p99), millis(p50)), "10 ms", p99 <= changeLimit},
			row{"the same from the return of the write, p99 (p50)", fmt.Sprintf("%s (%s)", millis(quantile(f.puts, 99)), millis(quantile(f.puts, 50))), "", true},
			row{"routes, neighbours in the kernel with 2 peers, with all", fmt.Sprintf("%v; %v", f.kernel[0], f.kernel[1]), "the same", f.kernel[0] == f.kernel[1]},
		)
	}
	if f.settings.nodes > 0 {
		rows = append(rows,
			row{fmt.Sprintf("%d daemons started at once: until the last is ready", f.settings.nodes), millis(f.ready), "15 s", f.ready <= nodesLimit},
			row{"their subnets, all different", fmt.Sprint(f.distinct), fmt.Sprint(f.settings.nodes), f.distinct == f.settings.nodes},
		)
	}
	return rows
}

// quantile returns the least of d that q in a hundred do not exceed.
func quantile(d []time.Duration, q int) time.Duration {
	s := slices.Sorted(slices.Values(d))
	return s[(len(s)*q+99)/100-1]
}

func millis(d time.Duration) string {
	if d < time.Second {
		return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
	}
	return fmt.Sprintf("%.2f s", d.Seconds())
}

// missed returns what is over its limit.
func (f figures) missed() error {
	var errs []error
	for _, r := range f.rows() {
		if !r.ok {
			errs = append(errs, fmt.Errorf("%s: got %s, want %s", r.what, r.got, r.limit))
		}
	}
	return errors.Join(errs...)
}

// write writes the figures for people.
func (f figures) write(w io.Writer) {
	for _, r := range f.rows() {
		fmt.Fprintf(w, "%-80s %-36s %s\n", r.what, r.got, r.limit)
	}
}

// markdown writes the figures as a table, with the command that makes them.
func (f figures) markdown(w io.Writer) {
	fmt.Fprint(w, "| what | measured | at most |\n|---|---|---|\n")
	for _, r := range f.rows() {
		fmt.Fprintf(w, "| %s | %s | %s |\n", r.what, r.got, r.limit)
	}
	fmt.Fprintf(w, "\nMade by `go run ./test/scale %s`.\n", strings.Join(f.settings.args, " "))
}

// insert puts the figures between their marks in the file name.
func (f figures) insert(name string) error {
	var text bytes.Buffer
	f.markdown(&text)
	return document.Insert(name, f.settings.mark(), text.Bytes())
}
