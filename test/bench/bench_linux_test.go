// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"vxtap/test/bed"
)

func TestMain(m *testing.M) { os.Exit(bed.Main(m)) }

// The bench itself runs, once and briefly, and prints a ratio for each work.
// How large it is, a machine that tests other things meanwhile cannot say.
func TestBench(t *testing.T) {
	bed.NeedRoot(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var out strings.Builder
	args := []string{
		"-name", "benchtest", "-rounds", "1", "-time", "1s", "-works", "(tcp1|udp64|udp-rtt|tcp-rr)/containers",
		"-vxtap", bed.Binary(t, "vxtap"), "-vxlab", bed.Binary(t, "vxlab"), "-other-args", "-offload=off",
	}
	if err := run(ctx, args, &out, io.Discard); err != nil {
		t.Fatal(err)
	}
	// Three rows each have a ratio for both daemons, and so has the 99th percentile.
	if got := strings.Count(out.String(), "("); got != 10 {
		t.Errorf("%d ratios in the table, want 10:\n%s", got, out.String())
	}
	if strings.Contains(out.String(), "NaN") || strings.Contains(out.String(), "Inf") {
		t.Errorf("no ratio:\n%s", out.String())
	}
}
