// SPDX-License-Identifier: Apache-2.0

package offload

import (
	"fmt"
	"testing"

	"vxtap/cmd/vxlab/lab"
	"vxtap/encap/vxlan"
	"vxtap/test/bed"
	"vxtap/test/traffic"
)

// Whatever the network card below does itself, however large its packets are,
// and whether or not a kernel peer fills in the outer checksum, everything
// arrives.
func TestUnderlay(t *testing.T) {
	tests := []struct {
		name   string
		mtu    int
		card   []string // for ethtool -K eth0, on every host
		kernel []string // for the kernel peer's device
		args   []string
	}{
		{name: "no checksums in the card", card: []string{"tx", "off"}},
		{name: "no checksums in the card, by UDP", card: []string{"tx", "off"}, args: []string{"-tx-path=udp"}},
		{name: "no segmentation in the card", card: []string{"tx-udp-segmentation", "off", "gso", "off"}},
		{name: "no segmentation in the card, by UDP", card: []string{"tx-udp-segmentation", "off", "gso", "off"}, args: []string{"-tx-path=udp"}},
		{name: "a peer without outer checksums", kernel: []string{"noudpcsum"}},
		{name: "a peer without outer checksums or offloads", kernel: []string{"noudpcsum"}, card: []string{"tx", "off"}},
		{name: "the smallest MTU", mtu: 576},
		{name: "the smallest MTU, by UDP", mtu: 576, args: []string{"-tx-path=udp"}},
		{name: "MTU 9000", mtu: 9000},
		{name: "MTU 65000", mtu: 65000},
		{name: "MTU 65000, by UDP", mtu: 65000, args: []string{"-tx-path=udp"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := bed.Up(t, lab.Options{Hosts: 2, MTU: tt.mtu, Args: tt.args})
			kernel := b.JoinKernel(t.Context(), kernelSubnet, tt.kernel...)
			awaitPeers(t, b, 2)
			if tt.card != nil {
				for _, h := range b.Hosts() {
					bed.Run(t, b.Node(h.Node), "ethtool", append([]string{"-K", "eth0"}, tt.card...)...)
				}
			}
			path := "uplink"
			if tt.args != nil {
				path = "udp"
			}
			for n := 1; n <= 2; n++ {
				awaitPath(t, b, n, path)
			}
			for _, p := range []struct{ a, b traffic.End }{
				{b.ContainerEnd(1), b.ContainerEnd(2)},
				{b.ContainerEnd(1), kernel.ContainerEnd()},
				{b.HostEnd(2), kernel.HostEnd()},
			} {
				t.Run(fmt.Sprintf("%s and %s", p.a, p.b), func(t *testing.T) {
					everything(t, p.a, p.b, b.Options().MTU-vxlan.OverheadIPv4, 8<<20)
				})
			}
		})
	}
}
