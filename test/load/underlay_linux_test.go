// SPDX-License-Identifier: Apache-2.0

package load

import (
	"context"
	"testing"
	"time"

	"vxtap/cmd/vxlab/lab"
	"vxtap/encap/vxlan"
	"vxtap/test/bed"
	"vxtap/test/traffic"
)

// Whatever the underlay can carry, and leaves undone, ours and the kernel's
// hosts carry each other's traffic, both ways.
func TestUnderlay(t *testing.T) {
	tests := []struct {
		name  string
		mtu   int
		words []string // for the kernel's device
		off   []string // devices that lose their offloads: "vxtap", "kernel"
		bytes int64    // of each stream
	}{
		{"the smallest overlay", 576 + vxlan.OverheadIPv4, nil, nil, 8 << 20},
		{"MTU 9000", 9000, nil, nil, 64 << 20},
		{"MTU 65000", 65000, nil, nil, 64 << 20},
		{"no offloads below vxtap", 1500, nil, []string{"vxtap"}, 32 << 20},
		{"no offloads below the kernel peer", 1500, nil, []string{"kernel"}, 32 << 20},
		{"no offloads below both, smallest overlay", 576 + vxlan.OverheadIPv4, nil, []string{"vxtap", "kernel"}, 8 << 20},
		{"a peer without outer checksums", 1500, []string{"noudpcsum"}, nil, 32 << 20},
		{"a peer without outer checksums, no offloads below it", 1500, []string{"noudpcsum"}, []string{"kernel"}, 32 << 20},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := bed.Up(t, lab.Options{Hosts: 2, MTU: tt.mtu})
			kernel := b.JoinKernel(t.Context(), kernelSubnet, tt.words...)
			awaitPeers(t, b, 2, 2)
			for _, which := range tt.off {
				ns := kernel.Namespace
				if which == "vxtap" {
					ns = b.Node("h1")
				}
				bed.Run(t, ns, "ethtool", "-K", "eth0", "tx", "off")
			}
			for _, p := range []way{
				{"vxtap and kernel", b.ContainerEnd(1), kernel.ContainerEnd()},
				{"vxtap and vxtap", b.ContainerEnd(1), b.ContainerEnd(2)},
				{"vxtap host and kernel host", b.HostEnd(1), kernel.HostEnd()},
			} {
				t.Run(p.name, func(t *testing.T) {
					warm(t, p.from, p.to)
					ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
					defer cancel()
					if err := traffic.BothWays(ctx, p.from, p.to, tt.mtu-vxlan.OverheadIPv4, tt.bytes); err != nil {
						t.Error(err)
					}
				})
			}
			for n := 1; n <= 2; n++ {
				for reason, k := range b.Status(n).In.Drops {
					if reason != "probe" && reason != "no-vni-flag" {
						t.Errorf("h%d has dropped %d frames that came in: %s", n, k, reason)
					}
				}
			}
		})
	}
}
