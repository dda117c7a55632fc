// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"
)

func TestDemo(t *testing.T) {
	t.Parallel()
	name, flags := newLab(t, "demo")
	code, out, stderr := vxlab(t, append([]string{"demo", "-n=3", "-size=20"}, flags...)...)
	if code != exitOK || stderr != "" {
		t.Fatalf("got status %d, stderr %q, stdout %s", code, stderr, out)
	}
	for _, want := range []string{
		"pinging 6 pairs", "every container answers every other", "c1 -> c2: sending 20 MB", "c2 -> c1: ", "on both ends",
		"HOST  SUBNET", "h1    172.30.1.0/24  192.168.77.11  ", "b/s to h1", "h3    172.30.3.0/24", "everything is taken down", "all is well",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in:\n%s", want, out)
		}
	}
	if strings.Contains(out, "\x1b") {
		t.Errorf("colours in a pipe: %q", out)
	}
	gone(t, name)
}

func TestADemoInWhichPairsFail(t *testing.T) {
	t.Parallel()
	name, flags := newLab(t, "island")
	code, out, stderr := vxlab(t, append([]string{"demo", "-n=2", "-vxtap-arg=-misbehave=island"}, flags...)...)
	if want := "vxlab: 2 of 2 pairs of containers failed: c1 -> c2 (no reply), c2 -> c1 (no reply)\n"; code != exitError || stderr != want {
		t.Errorf("got status %d, stderr %q, want %q", code, stderr, want)
	}
	if !strings.Contains(out, "1 of 1 lost") || strings.Contains(out, "all is well") {
		t.Errorf("stdout: %s", out)
	}
	gone(t, name)
}

func TestADemoWhoseDaemonsDoNotStart(t *testing.T) {
	t.Parallel()
	name, flags := newLab(t, "nostart")
	code, _, stderr := vxlab(t, append([]string{"demo", "-vxtap-arg=-misbehave=exit"}, flags...)...)
	if code != exitError || !strings.Contains(stderr, " ended: exit status 1: standin: told to end at once\n") {
		t.Errorf("got status %d, stderr %q", code, stderr)
	}
	gone(t, name)
}

func TestADemoThatStays(t *testing.T) {
	t.Parallel()
	name, flags := newLab(t, "keep")
	code, out, _ := vxlab(t, append([]string{"demo", "-n=2", "-size=1", "-keep"}, flags...)...)
	if code != exitOK || !strings.Contains(out, "stays: ") || hostPID(t, name, "h1") == 0 {
		t.Errorf("got status %d, stdout %s", code, out)
	}
	if code, _, stderr := vxlab(t, append([]string{"demo"}, flags...)...); code != exitError || !strings.Contains(stderr, "lab exists") {
		t.Errorf("a demo over a lab that was kept: got status %d, stderr %q", code, stderr)
	}
}
