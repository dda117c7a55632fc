// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"
)

// row is one row of the table: a metric of a work, and its samples by
// contestant, one a round.
type row struct {
	work
	metric
	samples map[string][]float64
}

// measurement is a run: every work on every contestant, round by round.
type measurement struct {
	settings    settings
	contestants []*contestant
	progress    io.Writer
	rows        []*row
	failed      []error
}

// measure fills rows. A measurement that fails twice leaves a gap in them, and
// the error says what is missing.
func (m *measurement) measure(ctx context.Context) error {
	works := chosenWorks(m.settings)
	byWork := make([][]*row, len(works))
	for i, w := range works {
		for _, metric := range w.metrics {
			r := &row{w, metric, map[string][]float64{}}
			m.rows, byWork[i] = append(m.rows, r), append(byWork[i], r)
		}
	}
	// Programs start and end, and sockperf pauses for two seconds.
	each := m.settings.time + time.Second
	runs := m.settings.rounds * len(works) * len(m.contestants)
	fmt.Fprintf(m.progress, "%d measurements: about %s\n", runs, roughly(time.Duration(runs)*each))
	for round := range m.settings.rounds {
		for i, w := range works {
			m.round(ctx, round, w, byWork[i])
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
		}
	}
	m.rows = slices.DeleteFunc(m.rows, func(r *row) bool { return len(r.samples) == 0 })
	return errors.Join(m.failed...)
}

// round does one work on everybody.
func (m *measurement) round(ctx context.Context, round int, w work, rows []*row) {
	for i := range m.contestants {
		// Whoever comes first finds the machine in another state than whoever
		// follows on a busy neighbour: everybody in turn.
		c := m.contestants[(i+round)%len(m.contestants)]
		if c.mixed && (w.key == restKey || strings.HasPrefix(w.key, reverseKey)) {
			continue // the daemon is another's, and the way back is the other mixed pair's
		}
		values, err := m.twice(ctx, c, w)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			m.failed = append(m.failed, fmt.Errorf("%s, %s, round %d: %w", c.name, w.key, round+1, err))
			continue
		}
		var found []string
		for i, r := range rows {
			if !math.IsNaN(values[i]) {
				r.samples[c.name] = append(r.samples[c.name], values[i])
				found = append(found, r.metric.name+": "+figure(values[i]))
			}
		}
		if len(found) == 0 {
			found = []string{"nothing to measure: no daemon"}
		}
		fmt.Fprintf(m.progress, "round %d/%d  %-24s %-12s  %s\n", round+1, m.settings.rounds, w.key, c.name, strings.Join(found, "; "))
	}
}

// roughly returns d as people plan by it: in minutes, or in steps of ten seconds
// where that is less than two.
func roughly(d time.Duration) string {
	if d < 2*time.Minute {
		return fmt.Sprintf("%d seconds", int((d + 10*time.Second - 1).Truncate(10*time.Second).Seconds()))
	}
	return fmt.Sprintf("%d minutes", int(d.Round(time.Minute).Minutes()))
}

// twice is one measurement, with a second try. On a machine with a neighbour a
// program may be late; what fails again is a finding.
func (m *measurement) twice(ctx context.Context, c *contestant, w work) ([]float64, error) {
	values, err := w.run(ctx, c, w, m.settings)
	if err == nil || ctx.Err() != nil {
		return values, err
	}
	if err := c.alive(); err != nil {
		return nil, err
	}
	fmt.Fprintf(m.progress, "%s, %s: %v; once more\n", c.name, w.key, err)
	if err := sleep(ctx, time.Second); err != nil {
		return nil, err
	}
	return w.run(ctx, c, w, m.settings)
}

func median(v []float64) float64 {
	if len(v) == 0 {
		return math.NaN()
	}
	v = slices.Sorted(slices.Values(v))
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}
