// SPDX-License-Identifier: Apache-2.0

// Command micro runs the Go benchmarks of every stage that a frame goes
// through, and prints one table: what a stage takes for one frame, what it
// allocates, and what it may take where there is a bound.
//
//	go run ./test/micro [-count 6] [-benchtime 50ms]
//
// A benchmark lives in the package of its stage; this program knows only its
// name. It exits with 1 if a stage allocates or its benchmark is gone, but not
// if a bound is missed: how fast the machine at hand is, is no fault.
package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "micro:", err)
		os.Exit(1)
	}
}

// stage is one step of a frame's way, and the benchmark that measures it.
type stage struct {
	name      string
	pkg       string // of the module
	benchmark string // without "Benchmark"
}

// stages are all of them, in the order in which the table has them.
var stages = []stage{
	{"classify: parse, flow hash", "encap/packet", "Classify"},
	{"lookup among", "tunnel", "Lookup"},
	{"VXLAN header", "encap/vxlan", "Header"},
	{"segmentation", "encap/gso", "Split"},
	{"coalescing", "encap/gso", "Coalesce"},
	{"arrival", "encap/gso", "Arrival"},
	{"checksum", "encap/checksum", "Sum"},
	{"pseudo header", "encap/checksum", "Pseudo"},
	{"open checksum filled in", "encap/gso", "Complete"},
	{"a whole loop", "tunnel", "Loops"},
}

// bound is what a stage may take for a frame, in nanoseconds.
type bound struct{ least, goal float64 }

// bounds has the targets of the second release on the machine that
// docs/performance.md names, by benchmark and case.
var bounds = map[string]bound{
	"Lookup/10000 subnets": {50, 20},
	"Sum/1400 B":           {60, 35},
}

func run(ctx context.Context, args []string, stdout, progress io.Writer) error {
	f := flag.NewFlagSet("micro", flag.ContinueOnError)
	f.SetOutput(progress)
	count := f.Int("count", 6, "`rounds` of each benchmark")
	benchtime := f.String("benchtime", "50ms", "`duration` of one round, or a number of runs, as in 100x")
	if err := f.Parse(args); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "micro")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := compile(ctx, dir); err != nil {
		return err
	}
	var results results
	for round := range *count {
		fmt.Fprintf(progress, "round %d/%d\n", round+1, *count)
		for _, pkg := range packages() {
			out, err := bench(ctx, dir, pkg, *benchtime)
			if err != nil {
				return err
			}
			if err := results.parse(out); err != nil {
				return err
			}
		}
	}
	render(stdout, &results)
	fmt.Fprintf(stdout, "medians of %d interleaved rounds of %s; %s\na frame is one on the wire, of a whole loop out one that was read\n", *count, *benchtime, results.machine)
	return results.faults()
}

// packages lists the packages of all stages, each once.
func packages() []string {
	var pkgs []string
	for _, s := range stages {
		if !slices.Contains(pkgs, s.pkg) {
			pkgs = append(pkgs, s.pkg)
		}
	}
	return pkgs
}

// compile builds the tests of all packages into dir, so that rounds may be
// interleaved: what else the machine does then falls on all stages alike.
func compile(ctx context.Context, dir string) error {
	args := []string{"test", "-c", "-o", dir + string(filepath.Separator)}
	for _, pkg := range packages() {
		args = append(args, "vxtap/"+pkg)
	}
	if out, err := exec.CommandContext(ctx, "go", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("compile the benchmarks: %w\n%s", err, bytes.TrimSpace(out))
	}
	return nil
}

// bench runs the benchmarks of the stages in pkg once and returns what they
// say.
func bench(ctx context.Context, dir, pkg, benchtime string) ([]byte, error) {
	var names []string
	for _, s := range stages {
		if s.pkg == pkg {
			names = append(names, regexp.QuoteMeta(s.benchmark))
		}
	}
	out, err := exec.CommandContext(ctx, filepath.Join(dir, path.Base(pkg)+".test"), "-test.run", "^$",
		"-test.bench", "^Benchmark("+strings.Join(names, "|")+")$", "-test.benchmem", "-test.benchtime", benchtime).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("benchmarks of %s: %w\n%s", pkg, err, bytes.TrimSpace(out))
	}
	return out, nil
}
