// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"vxtap/cmd/vxlab/lab"
	"vxtap/test/bed"
)

func TestMain(m *testing.M) { os.Exit(bed.Main(m)) }

// programs returns the flags that name programs built from this tree.
func programs(t *testing.T) []string {
	t.Helper()
	relay := filepath.Join(t.TempDir(), "relay")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", relay, "./relay").CombinedOutput(); err != nil {
		t.Fatalf("build the relay: %v\n%s", err, out)
	}
	return []string{"-vxtap", bed.Binary(t, "vxtap"), "-vxlab", bed.Binary(t, "vxlab"), "-relay", relay}
}

// The bench itself runs, once and briefly, and every contestant has its ratio.
// How large it is, a machine that tests other things meanwhile cannot say.
func TestBench(t *testing.T) {
	bed.NeedRoot(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	svg := filepath.Join(t.TempDir(), "a.svg")
	args := append(programs(t), "-name", "benchtest", "-rounds", "1", "-time", "1s", "-other-args", "-offload=off",
		"-works", "tcp1/containers|udp64/hosts", "-svg", svg)
	var out strings.Builder
	if err := run(ctx, args, &out, io.Discard); err != nil {
		t.Fatal(err)
	}
	others := 7
	if strings.Contains(out.String(), ovsName+" is left out") {
		if os.Getenv("CI") == "true" {
			t.Error("no Open vSwitch here: see .ci/deps")
		}
		others--
	}
	// Two rates; the kernel has no daemon whose CPU time could be compared.
	if got := strings.Count(out.String(), "("); got != 2*others {
		t.Errorf("%d ratios in the table, want %d:\n%s", got, 2*others, out.String())
	}
	for _, bad := range []string{"NaN", "Inf"} {
		if strings.Contains(out.String(), bad) {
			t.Errorf("no ratio:\n%s", out.String())
		}
	}
	if info, err := os.Stat(svg); err != nil || info.Size() < 1000 {
		t.Errorf("the picture: %v", err)
	}
}

// What TestBench leaves out: sockperf pauses for two seconds before it starts,
// which with everybody takes too long.
func TestOtherWorks(t *testing.T) {
	bed.NeedRoot(t)
	args := append(programs(t), "-name", "benchworks", "-rounds", "1", "-time", "1s",
		"-anchor=false", "-contestants", "vxtap", "-works", "udp-rtt/hosts|tcp-rr/containers|rest")
	var out strings.Builder
	if err := run(t.Context(), args, &out, io.Discard); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"median us", "p99 us", "k/s ", "CPU s/M packets", "% of a core", "MiB resident"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the table lacks %s:\n%s", want, out.String())
		}
	}
}

func TestAnInterruptTakesEverythingDown(t *testing.T) {
	bed.NeedRoot(t)
	args := append(programs(t), "-name", "benchstop", "-works", "tcp4/hosts", "-time", "60s")
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
	defer cancel()
	err := run(ctx, args, io.Discard, io.Discard)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want %v", err, context.DeadlineExceeded)
	}
	if labs, err := lab.List(); err != nil || slices.Contains(labs, "benchstop") {
		t.Errorf("left: %v, %v", labs, err)
	}
}

func TestADeadDaemonSaysWhy(t *testing.T) {
	bed.NeedRoot(t)
	args := append(programs(t), "-name", "benchdead", "-contestants", "vxtap", "-vxtap-args", "-no-such-flag")
	err := run(t.Context(), args, io.Discard, io.Discard)
	if err == nil || !strings.Contains(err.Error(), "no-such-flag") {
		t.Errorf("got %v, want an error that names the flag", err)
	}
	if labs, err := lab.List(); err != nil || slices.Contains(labs, "benchdead") {
		t.Errorf("left: %v, %v", labs, err)
	}
}

func TestAtRest(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "sleep", "30")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c := &contestant{daemons: []*daemon{{cmd: cmd}}}
	got, err := atRest(t.Context(), c, work{}, settings{time: time.Second})
	if err != nil || got[0] < 0 || got[0] > 5 || got[1] < 0.1 || got[1] > 100 {
		t.Errorf("got %v and %v, want little of a core and a few MiB", got, err)
	}
	_, _ = cmd.Process.Kill(), cmd.Wait()
	if _, err := atRest(t.Context(), c, work{}, settings{time: time.Millisecond}); err == nil {
		t.Error("a process that has ended: got nil, want an error")
	}
	if got, err := atRest(t.Context(), &contestant{}, work{}, settings{}); err != nil || !math.IsNaN(got[0]) {
		t.Errorf("no daemon: got %v and %v", got, err)
	}
}
