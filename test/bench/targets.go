// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"math"
)

// target is something that vxtap is to reach: in each place where its work is
// done.
type target struct {
	what        string
	work        string // a key without its place
	metric      metric
	name, to    string // a ratio of these contestants; to is "": the figure itself
	least, goal float64
}

// targets returns what is to be reached on two cores that both hosts, both
// daemons and both ends of the test share.
func targets() []target {
	return []target{
		{"1 TCP stream, to kernel VXLAN", "tcp1", rate, vxtapName, kernelName, 0.65, 0.85},
		{"4 TCP streams, to kernel VXLAN", "tcp4", rate, vxtapName, kernelName, 0.50, 0.70},
		{"1 TCP stream, to the relay", "tcp1", rate, vxtapName, relayName, 1.05, 1.25},
		{"1 TCP stream, to Open vSwitch", "tcp1", rate, vxtapName, ovsName, 7, 10},
		{"1 TCP stream from a kernel peer, to kernel VXLAN", "tcp1", rate, intoName, kernelName, 0.60, 0.85},
		{"1 TCP stream to a kernel peer, to kernel VXLAN", "tcp1", rate, outOfName, kernelName, 0.60, 0.85},
		{"64 B UDP delivered, to kernel VXLAN", "udp64", delivered, vxtapName, kernelName, 1.0, 1.5},
		{"UDP ping-pong median, to kernel VXLAN", "udp-rtt", middle, vxtapName, kernelName, 1.0, 0.60},
		{"UDP ping-pong 99th percentile, to kernel VXLAN", "udp-rtt", tail, vxtapName, kernelName, 1.7, 1.0},
		{"idle daemon, % of a core", restKey, idle, vxtapName, "", 0.5, 0.1},
	}
}

// verdict returns what was measured in a place and how that stands to the
// target, and "" if it was not measured.
func (r results) verdict(t target, p place) string {
	key := t.work
	if key != restKey {
		key += "/" + string(p)
	}
	v := math.NaN()
	for _, row := range r.rows {
		if row.key == key && row.metric == t.metric {
			v = row.median(t.name)
			if t.to != "" {
				v = row.ratio(t.name, t.to)
			}
		}
	}
	reaches := func(mark float64) bool { return v >= mark && !t.metric.lower || v <= mark && t.metric.lower }
	switch {
	case math.IsNaN(v):
		return ""
	case reaches(t.goal):
		return fmt.Sprintf("%.2f goal", v)
	case reaches(t.least):
		return fmt.Sprintf("%.2f reached", v)
	}
	return fmt.Sprintf("%.2f missed", v)
}

// verdicts returns a row of text for each target of which anything was
// measured: what, at least, goal, and a column for each place in which there was
// traffic. The first row has the titles; without any other there is none.
func (r results) verdicts() [][]string {
	var rows [][]string
	among := map[place]bool{}
	for _, row := range r.rows {
		among[row.place] = true
	}
	between := func(inside, outside string) (cells []string) {
		if among[containers] || !among[hosts] { // what is measured at rest stands there too
			cells = append(cells, inside)
		}
		if among[hosts] {
			cells = append(cells, outside)
		}
		return cells
	}
	for _, t := range targets() {
		inside, outside := r.verdict(t, containers), r.verdict(t, hosts)
		if t.work == restKey && among[containers] {
			outside = "" // there is one
		}
		if inside == "" && outside == "" {
			continue
		}
		if rows == nil {
			rows = append(rows, append([]string{"what is to be reached", "at least", "goal"}, between(string(containers), string(hosts))...))
		}
		rows = append(rows, append([]string{t.what, fmt.Sprint(t.least), fmt.Sprint(t.goal)}, between(inside, outside)...))
	}
	return rows
}
