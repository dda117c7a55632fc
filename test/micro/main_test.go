// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"strings"
	"testing"
)

// TestEveryStage runs every benchmark once: each is there, none allocates, and
// the table has a line for each bound. It says nothing about speed.
func TestEveryStage(t *testing.T) {
	var out, progress bytes.Buffer
	// Several runs, or what is got once would count as allocated in each.
	if err := run(t.Context(), []string{"-count", "1", "-benchtime", "20x"}, &out, &progress); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"10000 subnets", "1400 B", "TSO6, full", "UDP, 64 B"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, out.String())
		}
	}
}

const twoRounds = `goos: linux
cpu: Some CPU
BenchmarkSum/1400_B-2   	 6460354	        40.20 ns/op	37629.43 MB/s	       0 B/op	       0 allocs/op
BenchmarkSum/1400_B-2   	 6260053	        36.00 ns/op	38307.54 MB/s	       0 B/op	       0 allocs/op
BenchmarkSplit/TSO4,_full-2	    1000	      2173 ns/op	    47.25 ns/frame	     100 B/op	       2 allocs/op
PASS
`

func TestParse(t *testing.T) {
	var r results
	if err := r.parse([]byte(twoRounds)); err != nil {
		t.Fatal(err)
	}
	if len(r.cases) != 2 || r.machine != "Some CPU" {
		t.Fatalf("%d cases on %q, want 2 on Some CPU", len(r.cases), r.machine)
	}
	if c := r.cases[0]; c.work != "1400 B" || median(c.ns) != 38.1 || c.verdict() != "reached" {
		t.Errorf("got %+v, %s, want a median of 38.1, reached", c, c.verdict())
	}
	if c := r.cases[1]; c.benchmark != "Split" || median(c.ns) != 47.25 || c.allocs != 2 || c.verdict() != "" {
		t.Errorf("got %+v, want 47.25 a frame and 2 allocations", c)
	}
	err := r.faults()
	if err == nil {
		t.Fatal("no fault was found")
	}
	for _, want := range []string{"Split/TSO4, full allocates 2", "measured Classify", "measured Lookup/10000 subnets"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q in it", err, want)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for _, line := range []string{
		"BenchmarkSum", "BenchmarkSum 1 2", "BenchmarkSum 1 x ns/op 0 allocs/op", "BenchmarkSum 1 2 ns/op", "BenchmarkSum 1 0 allocs/op",
	} {
		var r results
		if err := r.parse([]byte(line)); err == nil {
			t.Errorf("%q was taken for %+v", line, r.cases)
		}
	}
}

func TestVerdict(t *testing.T) {
	for ns, want := range map[float64]string{35: "goal reached", 35.1: "reached", 60: "reached", 60.1: "MISSED"} {
		c := result{benchmark: "Sum", work: "1400 B", ns: []float64{ns}}
		if got := c.verdict(); got != want {
			t.Errorf("%v ns: got %q, want %q", ns, got, want)
		}
	}
}
