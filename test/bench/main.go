// SPDX-License-Identifier: Apache-2.0

// Command bench measures vxtap beside kernel VXLAN: the same topology, the
// same machine, the same minutes. Rounds are interleaved, since a machine's
// speed drifts, and what counts is the ratio of the medians.
//
//	go run ./test/bench [-rounds 5] [-time 3s] [-vxtap bin/vxtap] [-vxlab bin/vxlab]
//
// It needs root and iperf3.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// settings are the flags.
type settings struct {
	rounds       int
	time         time.Duration
	vxtap, vxlab string
}

func run(ctx context.Context, args []string, stdout, progress io.Writer) error {
	var s settings
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(progress)
	f.IntVar(&s.rounds, "rounds", 5, "`rounds` of each measurement")
	f.DurationVar(&s.time, "time", 3*time.Second, "`duration` of each measurement")
	f.StringVar(&s.vxtap, "vxtap", "bin/vxtap", "`path` of the daemon")
	f.StringVar(&s.vxlab, "vxlab", "bin/vxlab", "`path` of the lab command")
	if err := f.Parse(args); err != nil {
		return err
	}
	if s.rounds < 1 || s.time < time.Second {
		return errors.New("it takes at least one round of one second")
	}
	b, err := setUp(ctx, s, progress)
	if err != nil {
		return err
	}
	results, err := b.measure(ctx, s, progress)
	if err := errors.Join(err, b.takeDown()); err != nil {
		return err
	}
	report(stdout, s, results)
	return nil
}

// work is one thing that is measured, between hosts or between containers.
type work struct {
	name    string
	place   place
	streams int
	reverse bool
}

// place is where the ends of a test are.
type place string

const (
	hosts      place = "host to host"
	containers place = "container to container"
)

var works = []work{
	{"1 TCP stream", containers, 1, false},
	{"1 TCP stream", hosts, 1, false},
	{"1 TCP stream, reverse", containers, 1, true},
	{"4 TCP streams", containers, 4, false},
	{"4 TCP streams", hosts, 4, false},
}

// result is the rates of one work in bits a second, by contestant and round.
type result struct {
	work
	rates map[string][]float64
}

// measure runs every work on every contestant, round by round.
func (b *bench) measure(ctx context.Context, s settings, progress io.Writer) ([]result, error) {
	results := make([]result, len(works))
	for i, w := range works {
		results[i] = result{w, map[string][]float64{}}
	}
	for round := range s.rounds {
		for i, w := range works {
			for _, c := range b.contestants {
				rate, err := iperf(ctx, c, w, s.time)
				if err != nil {
					return nil, fmt.Errorf("%s, %s, %s: %w", c.name, w.name, w.place, err)
				}
				results[i].rates[c.name] = append(results[i].rates[c.name], rate)
				fmt.Fprintf(progress, "round %d/%d  %-22s %-23s %-13s %5.2f Gb/s\n", round+1, s.rounds, w.name, w.place, c.name, rate/1e9)
			}
		}
	}
	return results, nil
}

// report prints the medians and their ratio.
func report(w io.Writer, s settings, results []result) {
	t := table.NewWriter()
	t.SetOutputMirror(w)
	t.SetStyle(table.StyleLight)
	t.AppendHeader(table.Row{"work", "place", kernelName + " Gb/s", vxtapName + " Gb/s", "ratio"})
	for _, r := range results {
		k, v := median(r.rates[kernelName]), median(r.rates[vxtapName])
		t.AppendRow(table.Row{r.name, r.place, fmt.Sprintf("%.2f", k/1e9), fmt.Sprintf("%.2f", v/1e9), fmt.Sprintf("%.2f", v/k)})
	}
	t.Render()
	fmt.Fprintf(w, "medians of %d interleaved rounds of %s; %s\n", s.rounds, s.time, machine())
}

func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	v = slices.Sorted(slices.Values(v))
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}
