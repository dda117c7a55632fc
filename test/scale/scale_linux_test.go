// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"os/exec"
	"testing"

	"vxtap/test/bed"
	"vxtap/test/field"
)

// TestMain runs the tests in a field, and without root only those that need
// none.
func TestMain(m *testing.M) {
	if os.Geteuid() != 0 {
		os.Exit(m.Run())
	}
	code, outside, err := field.Enter()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code, outside = 1, true
	}
	if !outside {
		code = bed.Main(m)
	}
	os.Exit(code)
}

// The whole of it but the number of starts and changes, and of daemons. A
// machine that does other things besides costs the slowest changes more than a
// bound could say: here the median is held to it.
func TestScale(t *testing.T) {
	bed.NeedRoot(t)
	s := settings{leases: 10000, nodes: 60, starts: 1, changes: 200, vxtap: bed.Binary(t, "vxtap"), dir: t.TempDir()}
	hold(t, s)
}

// The same of both families, smaller, in a field of its own: one has room for one run.
func TestScaleOfBothFamilies(t *testing.T) {
	bed.NeedRoot(t)
	if os.Getenv(dualInside) != "" {
		hold(t, settings{leases: 2000, nodes: 20, starts: 1, changes: 50, dual: true, vxtap: bed.Binary(t, "vxtap"), dir: t.TempDir()})
		return
	}
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), dualInside+"=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// dualInside is the variable that tells the test binary that it is in that field.
const dualInside = "SCALE_TEST_DUAL"

// hold measures and compares with what is to be reached.
func hold(t *testing.T, s settings) {
	t.Helper()
	f, err := measure(t.Context(), s, t.Output())
	if err != nil {
		t.Fatal(err)
	}
	f.write(t.Output())
	if p50 := quantile(f.changes, 50); p50 > changeLimit {
		t.Errorf("a change of one lease takes %v in the median, want %v", p50, changeLimit)
	}
	f.changes = f.changes[:1]
	f.changes[0] = 0
	if err := f.missed(); err != nil {
		t.Error(err)
	}
}
