// SPDX-License-Identifier: Apache-2.0

// Package interop proves that hosts whose kernel does VXLAN and hosts that run
// vxtap carry each other's traffic, with all offloads on.
//
// Over veth the kernel hands a plain UDP socket 64 KB frames with partial inner
// checksums, and with UDP_GRO a segment size that is not the datagram's: the
// place where naive programs fail.
package interop

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"testing"
	"time"

	"vxtap/cmd/vxlab/lab"
	"vxtap/test/bed"
	"vxtap/test/traffic"
)

func TestMain(m *testing.M) { os.Exit(bed.Main(m)) }

// kernelSubnet is not among the first hundred that a host may lease by itself.
var kernelSubnet = netip.MustParsePrefix("172.30.200.0/24")

const streamBytes = 64 << 20

func TestTraffic(t *testing.T) {
	tests := []struct {
		name string
		mtu  int // of the underlay
		args []string
	}{
		{"MTU 1500", 1500, nil},
		{"MTU 9000", 9000, nil},
		{"MTU 1500 without offloads", 1500, []string{"-offload=off"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := bed.Up(t, lab.Options{Hosts: 2, MTU: tt.mtu, Args: tt.args})
			kernel := b.JoinKernel(t.Context(), kernelSubnet)
			bed.Eventually(t, time.Second, func() error {
				if !b.Status(1).HasPeer(kernelSubnet) {
					return fmt.Errorf("h1 does not know %s", kernelSubnet)
				}
				return nil
			})
			overlay := tt.mtu - 50
			pairs := []struct {
				name string
				a, b traffic.End
			}{
				{"vxtap host and kernel host", b.HostEnd(1), kernel.HostEnd()},
				{"vxtap container and kernel container", b.ContainerEnd(1), kernel.ContainerEnd()},
				{"vxtap host and vxtap host", b.HostEnd(1), b.HostEnd(2)},
				{"vxtap container and vxtap container", b.ContainerEnd(1), b.ContainerEnd(2)},
				{"vxtap container and kernel host", b.ContainerEnd(2), kernel.HostEnd()},
			}
			for _, p := range pairs {
				t.Run(p.name, func(t *testing.T) {
					ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
					defer cancel()
					if err := traffic.BothWays(ctx, p.a, p.b, overlay, streamBytes); err != nil {
						t.Error(err)
					}
				})
			}
		})
	}
}
