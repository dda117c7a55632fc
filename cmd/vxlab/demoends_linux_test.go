// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"vxtap/cmd/vxlab/lab"
	"vxtap/cmd/vxlab/netns"
)

// endless starts a demo that is sending more than it ever can.
func endless(t *testing.T, suffix string) (*program, string) {
	t.Helper()
	name, flags := newLab(t, suffix)
	p := start(t, append([]string{"demo", "-n=2", "-size=1000000"}, flags...)...)
	p.await(t, "sending")
	return p, name
}

func TestSignalsTakeTheDemoDown(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		suffix string
		sig    syscall.Signal
		want   string
	}{{"int", syscall.SIGINT, "vxlab: interrupt signal received\n"}, {"term", syscall.SIGTERM, "vxlab: terminated signal received\n"}} {
		t.Run(tt.sig.String(), func(t *testing.T) {
			p, name := endless(t, tt.suffix)
			if err := p.cmd.Process.Signal(tt.sig); err != nil {
				t.Fatal(err)
			}
			code, out, stderr := p.end(t)
			if code != exitError || stderr != tt.want || !strings.Contains(out, "everything is taken down") {
				t.Errorf("got status %d, stderr %q, stdout %s", code, stderr, out)
			}
			gone(t, name)
		})
	}
}

func TestASignalWhileTheLabIsBuilt(t *testing.T) {
	t.Parallel()
	name, flags := newLab(t, "early")
	p := start(t, append([]string{"demo", "-vxtap-arg=-misbehave=mute"}, flags...)...)
	p.await(t, "etcd answers")
	if err := p.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if code, _, stderr := p.end(t); code != exitError || stderr != "vxlab: interrupt signal received\n" {
		t.Errorf("got status %d, stderr %q", code, stderr)
	}
	gone(t, name)
}

func TestAReaderWhoGoesAwayTakesTheDemoDown(t *testing.T) {
	t.Parallel()
	name, flags := newLab(t, "pipe")
	p := start(t, append([]string{"demo", "-n=2", "-size=50"}, flags...)...)
	p.await(t, "underlay")
	if err := p.out.Close(); err != nil {
		t.Fatal(err)
	}
	if code, _, stderr := p.end(t); code != exitError || stderr != "vxlab: broken pipe signal received\n" {
		t.Errorf("got status %d, stderr %q", code, stderr)
	}
	gone(t, name)
}

func TestTheDemoNoticesADeathAtOnce(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ suffix, pattern, want string }{
		{"dead", "h2", "vxlab: vxtap on h2 ended: signal: killed: ready\n"},
		{"noetcd", "etcd", "vxlab: etcd ended: signal: killed: "},
	} {
		t.Run(tt.pattern, func(t *testing.T) {
			p, name := endless(t, tt.suffix)
			pid := etcdPID(t, name)
			if tt.pattern != "etcd" {
				pid = hostPID(t, name, tt.pattern)
			}
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			code, out, stderr := p.end(t)
			if code != exitError || !strings.HasPrefix(stderr, tt.want) || !strings.Contains(out, "everything is taken down") {
				t.Errorf("got status %d, stderr %q, stdout %s", code, stderr, out)
			}
			gone(t, name)
		})
	}
}

// etcdPID returns the process number of a lab's etcd: nothing else lives in
// its namespace.
func etcdPID(t *testing.T, name string) int {
	t.Helper()
	ns, err := netns.Open(lab.NamespaceName(name, lab.Underlay))
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	pids, err := ns.Processes()
	if err != nil || len(pids) != 1 {
		t.Fatalf("processes in %s: %v, %v", ns.Name(), pids, err)
	}
	return pids[0]
}

func TestWhatAKilledDemoLeavesIsClearedUp(t *testing.T) {
	t.Parallel()
	p, name := endless(t, "kill9")
	if err := p.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	p.end(t)
	if hostPID(t, name, "h1") == 0 {
		t.Fatal("the daemons have gone with the demo: nothing to clear up")
	}
	// The next demo of the name replaces it.
	_, flags := newLab(t, "kill9")
	p = start(t, append([]string{"demo", "-n=2", "-size=1000000"}, flags...)...)
	p.await(t, "sending")
	if err := p.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	p.end(t)
	// And down clears it, records or not.
	if err := os.Remove(filepath.Join(lab.StateDir(name), "lab.json")); err != nil {
		t.Fatal(err)
	}
	if code, out, stderr := vxlab(t, "ls"); code != exitOK || !strings.Contains(squeeze(out), name+" - - - - - - broken: its records are lost") {
		t.Errorf("ls: got status %d, stdout %s, stderr %q", code, out, stderr)
	}
	if code, out, stderr := vxlab(t, "down", "-name="+name); code != exitOK || out != "lab "+name+" is down\n" || stderr != "" {
		t.Errorf("down: got status %d, stdout %q, stderr %q", code, out, stderr)
	}
	gone(t, name)
}
