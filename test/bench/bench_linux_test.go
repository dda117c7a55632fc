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
	args := []string{"-rounds", "1", "-time", "1s", "-vxtap", bed.Binary(t, "vxtap"), "-vxlab", bed.Binary(t, "vxlab")}
	if err := run(ctx, args, &out, io.Discard); err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(out.String(), "TCP stream"); got != len(works) {
		t.Errorf("%d works in the table, want %d:\n%s", got, len(works), out.String())
	}
	if strings.Contains(out.String(), "NaN") || strings.Contains(out.String(), "Inf") {
		t.Errorf("no ratio:\n%s", out.String())
	}
}
