// SPDX-License-Identifier: Apache-2.0

package load

import (
	"context"
	"fmt"
	"testing"
	"time"

	"vxtap/cmd/vxlab/lab"
	"vxtap/test/bed"
	"vxtap/test/traffic"
)

// maxRun is how many datagrams are at the most in one packet of the underlay.
// One that is lost there on the way counts once.
const maxRun = 64

// books is every place where a datagram may get lost between two vxtap hosts,
// at one moment.
type books struct {
	single map[string]uint64 // each lost datagram counts once
	runs   uint64            // a lost packet counts once, whatever is in it: before a namespace or a socket
}

func readBooks(t *testing.T, b *bed.Bed) books {
	t.Helper()
	k := books{single: map[string]uint64{}}
	for n := 1; n <= 2; n++ {
		s := b.Status(n)
		for reason, n := range s.Out.Drops {
			k.single["out/"+reason] += n
		}
		for reason, n := range s.In.Drops {
			k.single["in/"+reason] += n
		}
		k.single["tap-overflows"] += s.TAPOverflows
		k.runs += s.SocketOverflows
	}
	backlog, err := traffic.BacklogDrops()
	if err != nil {
		t.Fatal(err)
	}
	k.runs += backlog
	return k
}

// since returns what was lost since before, by reason, and how much in sum. What
// a host's own kernel sends all the time, and what a daemon asks its peers, is
// not part of anybody's flow.
func (k books) since(before books) (grown map[string]uint64, sum uint64) {
	grown = map[string]uint64{}
	for reason, n := range k.single {
		switch reason {
		case "out/ipv6", "out/broadcast", "out/not-ip", "in/probe":
			continue
		}
		if n -= before.single[reason]; n > 0 {
			grown[reason] = n
			sum += n
		}
	}
	return grown, sum
}

// More is sent than the hosts can carry. What does not arrive is in somebody's
// books, and what does is in order.
func TestLossIsCounted(t *testing.T) {
	tests := []struct {
		name    string
		args    []string
		pattern []traffic.Burst
	}{
		{"64 bytes", nil, []traffic.Burst{{Size: 64, Count: 1}}},
		{"64 bytes without offloads", []string{"-offload=off"}, []traffic.Burst{{Size: 64, Count: 1}}},
		{"full datagrams", nil, []traffic.Burst{{Size: 1422, Count: 1}}},
		{"bursts by UDP", []string{"-tx-path=udp"}, []traffic.Burst{{Size: 1400, Count: 40}}},
		{"bursts by uplink", []string{"-tx-path=uplink"}, []traffic.Burst{{Size: 1400, Count: 40}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := bed.Up(t, lab.Options{Hosts: 2, Args: tt.args})
			awaitPeers(t, b, 2, 1)
			from, to := b.ContainerEnd(1), b.ContainerEnd(2)
			warm(t, from, to)
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			before := readBooks(t, b)
			flows := traffic.Flows{Number: 4, Pattern: tt.pattern, Datagrams: 40000}
			tally, err := flows.Run(ctx, from, to)
			if err != nil {
				t.Fatal(err)
			}
			if tally.Late+tally.Twice+tally.Spoilt > 0 {
				t.Errorf("%s", tally)
			}
			now := readBooks(t, b)
			grown, sum := now.since(before)
			runs := now.runs - before.runs
			t.Logf("%s; counted: %v, and %d packets of the underlay", tally, grown, runs)
			// Where a burst is lost whole, it counts once.
			known := uint64(tally.Overflow) + sum*uint64(tally.Segments) + runs*maxRun
			if lost := uint64(tally.Lost()); lost > known {
				t.Errorf("%d datagrams are lost, %d of them with a reason", lost, known)
			}
		})
	}
}

// Four TCP streams between containers leave the queues that frames wait in with
// room to spare, and where nothing is lost no more segments come out of order
// than with kernel VXLAN: threads that change the processor turn some round.
func TestFourStreams(t *testing.T) {
	var usual uint64
	t.Run("kernel VXLAN", func(t *testing.T) {
		b := bed.Up(t, lab.Options{Hosts: 1})
		kernel, other := b.JoinKernel(t.Context(), kernelSubnet), b.JoinKernel(t.Context(), otherSubnet)
		acquaint(t, kernel, other)
		usual = fourStreams(t, kernel.ContainerEnd(), other.ContainerEnd())
	})
	for _, args := range [][]string{nil, {"-tx-path=udp"}, {"-queues=4"}} {
		t.Run(fmt.Sprint("flags ", args), func(t *testing.T) {
			b := bed.Up(t, lab.Options{Hosts: 2, Args: args})
			awaitPeers(t, b, 2, 1)
			before := readBooks(t, b)
			late := fourStreams(t, b.ContainerEnd(1), b.ContainerEnd(2))
			after := readBooks(t, b)
			grown, sum := after.since(before)
			if sum > 0 {
				t.Errorf("lost: %v", grown)
			}
			if lost := sum + after.runs - before.runs; lost == 0 && late > 20+usual {
				t.Errorf("%d segments came out of order, with kernel VXLAN %d", late, usual)
			}
		})
	}
}

// fourStreams pours for two seconds and returns how many segments arrived out
// of order.
func fourStreams(t *testing.T, from, to traffic.End) uint64 {
	t.Helper()
	warm(t, from, to)
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	defer cancel()
	counters := func() map[string]uint64 {
		c, err := traffic.Counters(to.Namespace)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	before, start := counters(), time.Now()
	n, err := traffic.Pour(ctx, from, to, 4, 2*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	took := time.Since(start)
	late := counters()["TcpExt/TCPOFOQueue"] - before["TcpExt/TCPOFOQueue"]
	t.Logf("%.1f Gb/s, %d segments out of order", float64(n)*8/took.Seconds()/1e9, late)
	return late
}
