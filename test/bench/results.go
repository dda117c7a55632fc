// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"time"
)

// results are what a run found, and how.
type results struct {
	settings settings
	names    []string // of the contestants, in the order of the columns
	rows     []*row
	leftOut  []string // who could not take part, and why
}

// median returns a contestant's figure, NaN if there is none.
func (r *row) median(name string) float64 { return median(r.samples[name]) }

// ratio returns how the figures of two contestants stand to each other.
func (r *row) ratio(name, to string) float64 { return r.median(name) / r.median(to) }

// spread returns the least and the greatest round of a contestant, as text, where
// they are further apart than a machine's drift: a median of such rounds says
// little, and its ratio less. Else it returns "".
func (r *row) spread(name string) string {
	v := r.samples[name]
	if len(v) == 0 || slices.Max(v) < wide*slices.Min(v) || slices.Max(v) == 0 {
		return ""
	}
	return fmt.Sprintf(" [%s-%s]", figure(slices.Min(v)), figure(slices.Max(v)))
}

// wide is how many times the least round the greatest must be to be shown.
const wide = 1.5

// comparison is a column of ratios.
type comparison struct{ name, to string }

func (c comparison) String() string { return c.name + " / " + c.to }

// comparisons returns those that are of interest beside the ratio to the
// kernel, of the contestants that are there.
func (r results) comparisons() []comparison {
	all := []comparison{{vxtapName, relayName}, {vxtapName, ovsName}, {otherName, vxtapName}}
	return slices.DeleteFunc(all, func(c comparison) bool {
		return !slices.Contains(r.names, c.name) || !slices.Contains(r.names, c.to)
	})
}

// cells returns the row as text: a median for each contestant with its ratio to
// the kernel's in brackets, then the comparisons.
func (r results) cells(row *row) []string {
	var cells []string
	for _, name := range r.names {
		v, ratio := row.median(name), row.ratio(name, kernelName)
		switch {
		case math.IsNaN(v):
			cells = append(cells, "-")
		case name == kernelName || math.IsNaN(ratio):
			cells = append(cells, figure(v)+row.spread(name))
		default:
			cells = append(cells, fmt.Sprintf("%s (%.2f)%s", figure(v), ratio, row.spread(name)))
		}
	}
	for _, c := range r.comparisons() {
		if ratio := row.ratio(c.name, c.to); math.IsNaN(ratio) || math.IsInf(ratio, 0) {
			cells = append(cells, "-")
		} else {
			cells = append(cells, fmt.Sprintf("%.2f", ratio))
		}
	}
	return cells
}

// head returns the titles of the columns of cells.
func (r results) head() []string {
	head := slices.Clone(r.names)
	for _, c := range r.comparisons() {
		head = append(head, c.String())
	}
	return head
}

// method says what kind of figures a run yields.
func (s settings) method() string {
	if s.rounds == 1 {
		return fmt.Sprintf("One round of %s", s.time)
	}
	return fmt.Sprintf("Medians of %d interleaved rounds of %s", s.rounds, s.time)
}

// conditions returns what to know about the figures, a sentence a line.
func (r results) conditions() []string {
	s := r.settings
	lines := []string{
		s.method() + "; in round brackets the ratio to " + kernelName +
			", in square ones the least and the greatest round where they are 1.5 times apart.",
		machine() + ", " + time.Now().UTC().Format(time.DateOnly) + ".",
	}
	if slices.Contains(r.names, vxtapName) || slices.Contains(r.names, plainName) {
		lines = append(lines, vxtapName+": "+program(s.vxtap, s.vxtapArgs)+".")
	}
	if slices.Contains(r.names, otherName) {
		lines = append(lines, otherName+": "+program(s.other, s.otherArgs)+".")
	}
	return append(lines, r.leftOut...)
}

// program says from which source a program was built, by which Go, and with
// what flags it ran.
func program(path string, args []string) string {
	var commit, changed string
	info, err := buildinfo.ReadFile(path)
	if err != nil {
		return "built nobody knows how"
	}
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			commit = s.Value[:min(len(s.Value), 7)]
		case s.Key == "vcs.modified" && s.Value == "true":
			changed = ", changed"
		}
	}
	if commit == "" {
		commit = "unknown"
	}
	text := fmt.Sprintf("commit %s%s, %s", commit, changed, info.GoVersion)
	if len(args) > 0 {
		text += ", " + strings.Join(args, " ")
	}
	return text
}

// writeFiles writes the files that the flags name.
func (r results) writeFiles() error {
	var errs []error
	var b bytes.Buffer
	if name := r.settings.markdown; name != "" {
		r.writeMarkdown(&b)
		errs = append(errs, insert(name, b.Bytes()))
	}
	if name := r.settings.svg; name != "" {
		errs = append(errs, os.WriteFile(name, []byte(r.picture()), 0o644))
	}
	if name := r.settings.json; name != "" {
		text, err := r.samples()
		errs = append(errs, err, os.WriteFile(name, text, 0o644))
	}
	return errors.Join(errs...)
}

// samples returns every sample as JSON.
func (r results) samples() ([]byte, error) {
	type line struct {
		Work    string               `json:"work"`
		Name    string               `json:"name"`
		Metric  string               `json:"metric"`
		Lower   bool                 `json:"lower_is_better"`
		Samples map[string][]float64 `json:"samples"`
	}
	var lines []line
	for _, row := range r.rows {
		lines = append(lines, line{row.key, row.work.name, row.metric.name, row.lower, row.samples})
	}
	return json.MarshalIndent(struct {
		Conditions  []string `json:"conditions"`
		Command     string   `json:"command"`
		Contestants []string `json:"contestants"`
		Rows        []line   `json:"rows"`
	}{r.conditions(), r.command(), r.names, lines}, "", "\t")
}
