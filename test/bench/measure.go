// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"time"
)

// row is one row of the table: a metric of a work, and its samples by
// contestant, one a round.
type row struct {
	work
	metric
	samples map[string][]float64
}

// measure runs every work on every contestant, round by round. A measurement
// that fails twice leaves a gap; the rows are good as far as they go, and the
// error says what is missing.
func (b *bench) measure(ctx context.Context, s settings, progress io.Writer) ([]*row, error) {
	var rows []*row
	var failed []error
	works := chosenWorks(s)
	byWork := make([][]*row, len(works))
	for i, w := range works {
		for _, m := range w.metrics {
			r := &row{w, m, map[string][]float64{}}
			rows, byWork[i] = append(rows, r), append(byWork[i], r)
		}
	}
	for round := range s.rounds {
		for i, w := range works {
			for j := range b.contestants {
				// Whoever comes first has the machine in another state than
				// whoever follows on a busy neighbour: everybody in turn.
				c := b.contestants[(j+round)%len(b.contestants)]
				values, err := twice(ctx, c, w, s, progress)
				if ctx.Err() != nil {
					return rows, context.Cause(ctx)
				}
				if err != nil {
					failed = append(failed, fmt.Errorf("%s, %s, round %d: %w", c.name, w.key, round+1, err))
					continue
				}
				fmt.Fprintf(progress, "round %d/%d  %-24s %-12s", round+1, s.rounds, w.key, c.name)
				for k, r := range byWork[i] {
					if !math.IsNaN(values[k]) {
						r.samples[c.name] = append(r.samples[c.name], values[k])
						fmt.Fprintf(progress, "  %s %s", figure(values[k]), r.metric.name)
					}
				}
				fmt.Fprintln(progress)
			}
		}
	}
	return rows, errors.Join(failed...)
}

// twice is one measurement, with a second try. On a machine with a neighbour a
// program may be late; what fails again is a finding.
func twice(ctx context.Context, c *contestant, w work, s settings, progress io.Writer) ([]float64, error) {
	values, err := w.run(ctx, c, w, s)
	if err == nil || ctx.Err() != nil {
		return values, err
	}
	if err := c.alive(); err != nil {
		return nil, err
	}
	fmt.Fprintf(progress, "%s, %s: %v; once more\n", c.name, w.key, err)
	time.Sleep(time.Second)
	return w.run(ctx, c, w, s)
}

// alive returns an error if a daemon of c has ended.
func (c *contestant) alive() error {
	for _, d := range c.daemons {
		if err := d.died(); err != nil {
			return err
		}
	}
	return nil
}

func median(v []float64) float64 {
	if len(v) == 0 {
		return math.NaN()
	}
	v = slices.Sorted(slices.Values(v))
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}
