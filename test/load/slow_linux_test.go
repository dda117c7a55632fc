// SPDX-License-Identifier: Apache-2.0

package load

import (
	"context"
	"os"
	"syscall"
	"testing"
	"time"

	"vxtap/cmd/vxlab/lab"
	"vxtap/test/bed"
	"vxtap/test/stall"
	"vxtap/test/traffic"
)

// flood floods in the background until the function that it returns is called.
func flood(t *testing.T, from, to traffic.End, b traffic.Burst, pause time.Duration) (stop func() int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	var sent int
	done := make(chan error, 1)
	go func() {
		var err error
		sent, err = traffic.Flood(ctx, from, to, b, pause)
		done <- err
	}()
	return func() int {
		t.Helper()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		return sent
	}
}

// flow must come through completely, while something else is in the way.
func flow(t *testing.T, from, to traffic.End) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
	defer cancel()
	tally, err := traffic.Flows{Number: 2, Pattern: patterns[4].pattern, Datagrams: 3000, Window: 110}.Run(ctx, from, to)
	if err != nil {
		t.Fatal(err)
	}
	if tally.Lost()+tally.Late+tally.Twice+tally.Spoilt > 0 {
		t.Errorf("%s to %s: %s", from, to, tally)
	}
}

var (
	full  = traffic.Burst{Size: 1400, Count: 1}
	burst = traffic.Burst{Size: 1400, Count: 40}
)

// One direction that is slow, or blocked, does not hold up the other, nor one
// peer the others. Here nobody reads in the container.
func TestNobodyReads(t *testing.T) {
	b := bed.Up(t, lab.Options{Hosts: 2})
	warm(t, b.ContainerEnd(1), b.ContainerEnd(2))
	stop := flood(t, b.ContainerEnd(2), b.ContainerEnd(1), traffic.Burst{Size: 1400, Count: 10}, time.Millisecond)
	ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
	defer cancel()
	if _, err := traffic.Stream(ctx, b.ContainerEnd(1), b.ContainerEnd(2), 32<<20); err != nil {
		t.Error(err)
	}
	t.Logf("flooded with %d", stop())
	flow(t, b.ContainerEnd(1), b.ContainerEnd(2))
}

// An underlay that takes less than is sent fills what is before it, and not the
// way back.
func TestUnderlayIsSlow(t *testing.T) {
	for _, tt := range []struct {
		name, path, limit string
		reason            string // that must have grown
	}{
		{"the underlay is slow, and a socket's buffer fills", "udp", "1gb", "underlay-full"},
		{"the underlay is slow, and its queue fills", "uplink", "4mb", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := bed.Up(t, lab.Options{Hosts: 2, Args: []string{"-tx-path=" + tt.path}})
			warm(t, b.ContainerEnd(1), b.ContainerEnd(2))
			awaitPath(t, b, 1, tt.path)
			bed.Run(t, b.Node("h1"), "tc", "qdisc", "add", "dev", "eth0", "root", "tbf", "rate", "20mbit", "burst", "128kb", "limit", tt.limit)
			stop := flood(t, b.ContainerEnd(1), b.ContainerEnd(2), burst, 0)
			time.Sleep(500 * time.Millisecond)
			clock := stall.Start()
			flow(t, b.ContainerEnd(2), b.ContainerEnd(1))
			if took := clock.Took(); took > 5*time.Second {
				t.Errorf("the other direction took %s", took)
			}
			sent := stop()
			s := b.Status(1)
			t.Logf("flooded with %d in %d frames: %v", sent, s.Out.Received, s.Out.Drops)
			if tt.reason != "" && s.Out.Drops[tt.reason] == 0 {
				t.Errorf("nothing counts as %s", tt.reason)
			}
			bed.Run(t, b.Node("h1"), "tc", "qdisc", "del", "dev", "eth0", "root")
			warm(t, b.ContainerEnd(1), b.ContainerEnd(2))
			flow(t, b.ContainerEnd(1), b.ContainerEnd(2))
		})
	}
}

// What cannot be delivered is counted, and what comes is taken in. The daemon
// brings its TAP up again, so somebody has to take it down all the time.
func TestTAPIsDown(t *testing.T) {
	b := bed.Up(t, lab.Options{Hosts: 2})
	warm(t, b.ContainerEnd(2), b.ContainerEnd(1))
	stop := flood(t, b.ContainerEnd(2), b.ContainerEnd(1), full, 0)
	var before bed.Status
	for range 3 {
		bed.Run(t, b.Node("h1"), "sh", "-c", "for i in 1 2 3 4 5 6 7 8 9 10; do ip link set flannel.1 down; sleep 0.03; done")
		now := b.Status(1) // it answers, and its books are balanced
		if now.In.Received <= before.In.Received+100 || now.In.Drops["tap-error"] <= before.In.Drops["tap-error"]+100 {
			t.Errorf("has taken in %d, before that %d; dropped %v", now.In.Received, before.In.Received, now.In.Drops)
		}
		before = now
	}
	sent := stop()
	t.Logf("flooded with %d: %v", sent, b.Status(1).In.Drops)
	warm(t, b.ContainerEnd(2), b.ContainerEnd(1))
	flow(t, b.ContainerEnd(2), b.ContainerEnd(1))
}

// The underlay is down for a second.
func TestUnderlayIsDown(t *testing.T) {
	b := bed.Up(t, lab.Options{Hosts: 2})
	warm(t, b.ContainerEnd(1), b.ContainerEnd(2))
	stopFlood := flood(t, b.ContainerEnd(1), b.ContainerEnd(2), full, 0)
	stop := carry(t, b.HostEnd(2), b.HostEnd(1))
	bed.Run(t, b.Node("h1"), "ip", "link", "set", "eth0", "down")
	time.Sleep(time.Second)
	if s := b.Status(1); s.Out.Drops["underlay-unreachable"] == 0 {
		t.Errorf("nothing counts as underlay-unreachable: %v", s.Out.Drops)
	}
	bed.Run(t, b.Node("h1"), "ip", "link", "set", "eth0", "up")
	time.Sleep(500 * time.Millisecond)
	stopFlood()
	stop()
	awaitPath(t, b, 1, "uplink")
	flow(t, b.ContainerEnd(1), b.ContainerEnd(2))
}

// A peer whose daemon stands still fills its own socket, and nobody else's.
func TestPeerStandsStill(t *testing.T) {
	b := bed.Up(t, lab.Options{Hosts: 2})
	kernel := b.JoinKernel(t.Context(), kernelSubnet)
	awaitPeers(t, b, 2, 2)
	warm(t, b.ContainerEnd(1), b.ContainerEnd(2))
	warm(t, b.ContainerEnd(1), kernel.ContainerEnd())
	daemon, err := os.FindProcess(b.Host(2).PID)
	if err != nil {
		t.Fatal(err)
	}
	if err := daemon.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = daemon.Signal(syscall.SIGCONT) }()
	stop := flood(t, b.ContainerEnd(1), b.ContainerEnd(2), burst, time.Millisecond)
	ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
	defer cancel()
	for _, w := range [][2]traffic.End{{b.ContainerEnd(1), kernel.ContainerEnd()}, {kernel.ContainerEnd(), b.ContainerEnd(1)}} {
		if _, err := traffic.Stream(ctx, w[0], w[1], 16<<20); err != nil {
			t.Error(err)
		}
	}
	stop()
	if s := b.Status(1); s.TAPOverflows > 0 {
		t.Errorf("%d frames found the TAP's queue full", s.TAPOverflows)
	}
	if err := daemon.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	warm(t, b.ContainerEnd(1), b.ContainerEnd(2))
	flow(t, b.ContainerEnd(1), b.ContainerEnd(2))
}
