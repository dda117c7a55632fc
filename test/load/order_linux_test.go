// SPDX-License-Identifier: Apache-2.0

package load

import (
	"context"
	"testing"
	"time"

	"vxtap/cmd/vxlab/lab"
	"vxtap/test/bed"
	"vxtap/test/traffic"
)

// patterns are what a flow may consist of. Bursts leave as super-frames, whole
// by the uplink TAP where that is in use; what is between them leaves by UDP
// sockets, and must neither overtake nor be overtaken.
var patterns = []struct {
	name    string
	pattern []traffic.Burst
}{
	{"64 bytes", []traffic.Burst{{Size: 64, Count: 1}}},
	{"full datagrams", []traffic.Burst{{Size: 1422, Count: 1}}},
	{"lengths that change", []traffic.Burst{{Size: 1400, Count: 1}, {Size: 64, Count: 1}, {Size: 700, Count: 1}, {Size: 700, Count: 1}, {Size: 1200, Count: 1}}},
	{"bursts", []traffic.Burst{{Size: 1400, Count: 40}}},
	{"bursts between datagrams", []traffic.Burst{{Size: 1200, Count: 30}, {Size: 1200, Count: 1}, {Size: 64, Count: 1}, {Size: 300, Count: 20}, {Size: 1200, Count: 1}, {Size: 1400, Count: 2}}},
}

// A flow is delivered in the order in which it was sent, whatever it consists
// of, whichever ways its parts take, and however many queues there are. With a
// window that no buffer is too small for, nothing is lost either.
func TestOrder(t *testing.T) {
	tests := []struct {
		name string
		args []string
		path string // that the bursts take
	}{
		{"one queue", []string{"-queues=1"}, "uplink"},
		{"one queue, by UDP", []string{"-queues=1", "-tx-path=udp"}, "udp"},
		{"four queues", []string{"-queues=4"}, "uplink"},
		{"four queues, by UDP", []string{"-queues=4", "-tx-path=udp"}, "udp"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := bed.Up(t, lab.Options{Hosts: 2, Args: tt.args})
			kernel := b.JoinKernel(t.Context(), kernelSubnet)
			awaitPeers(t, b, 2, 2)
			awaitPath(t, b, 1, tt.path)
			for _, w := range []way{
				{"vxtap to vxtap", b.ContainerEnd(1), b.ContainerEnd(2)},
				{"vxtap to kernel", b.ContainerEnd(1), kernel.ContainerEnd()},
				{"kernel to vxtap", kernel.ContainerEnd(), b.ContainerEnd(2)},
			} {
				inOrder(t, w)
			}
			if n := b.Status(1).TXPath.Frames; (n > 0) != (tt.path == "uplink") {
				t.Errorf("%d super-frames left whole, by %s", n, tt.path)
			}
		})
	}
}

// The same without us: what this shows, no daemon can help.
func TestOrderOfKernelVXLAN(t *testing.T) {
	b := bed.Up(t, lab.Options{Hosts: 1})
	kernel := b.JoinKernel(t.Context(), kernelSubnet)
	other := b.JoinKernel(t.Context(), otherSubnet)
	acquaint(t, kernel, other)
	inOrder(t, way{"kernel to kernel", kernel.ContainerEnd(), other.ContainerEnd()})
}

// way is one direction between two ends.
type way struct {
	name     string
	from, to traffic.End
}

func inOrder(t *testing.T, w way) {
	t.Helper()
	warm(t, w.from, w.to)
	for _, p := range patterns {
		t.Run(w.name+": "+p.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			flows := traffic.Flows{Number: 4, Pattern: p.pattern, Datagrams: 2000, Window: 200}
			tally, err := flows.Run(ctx, w.from, w.to)
			if err != nil {
				t.Fatal(err)
			}
			if tally.Late+tally.Twice+tally.Spoilt+tally.Lost() > 0 {
				t.Errorf("%s", tally)
			}
		})
	}
}
