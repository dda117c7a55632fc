// SPDX-License-Identifier: Apache-2.0

package host

import (
	"net"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func TestAdvertised(t *testing.T) {
	const static, slaac, other = "2001:db8:77::11/64", "2001:db8:77::5054:ff:fe00:1/64", "2001:db8:78::/64"
	for _, tt := range []struct {
		name   string
		static []string // addresses that stay
		leased []string // addresses that end
		route  *net.IPNet
		proto  netlink.RouteProtocol
		want   bool
	}{
		{name: "no IPv6 at all"},
		{name: "an address that somebody set", static: []string{static}},
		{name: "one of a router", leased: []string{slaac}, want: true},
		{name: "both, and no default route: the router's has gone", static: []string{static}, leased: []string{slaac}, want: true},
		{name: "both, and a default route that somebody set", static: []string{static}, leased: []string{slaac}, route: defaultRoute6(), proto: unix.RTPROT_STATIC},
		{name: "a default route of a router", static: []string{static}, route: defaultRoute6(), proto: unix.RTPROT_RA, want: true},
		{name: "a default route that somebody set", static: []string{static}, route: defaultRoute6(), proto: unix.RTPROT_STATIC},
		{name: "a prefix of a router", static: []string{static}, route: network(t, other), proto: unix.RTPROT_RA},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inNamespace(t, func() {
				link := addInterface(t, "eth0", tt.static...)
				addInterface(t, "eth1")
				for _, a := range tt.leased {
					addr, err := netlink.ParseAddr(a)
					must(t, err)
					addr.ValidLft, addr.PreferedLft = 600, 600
					must(t, netlink.AddrAdd(link, addr))
				}
				if tt.route != nil {
					must(t, netlink.RouteAdd(&netlink.Route{
						LinkIndex: link.Attrs().Index, Dst: tt.route, Gw: net.ParseIP("fe80::1"), Protocol: tt.proto, Flags: int(netlink.FLAG_ONLINK),
					}))
				}
				if got, err := Advertised("eth0"); err != nil || got != tt.want {
					t.Errorf("got %t, %v, want %t", got, err, tt.want)
				}
				if got, err := Advertised("eth1"); err != nil || got {
					t.Errorf("the other interface: got %t, %v, want false", got, err)
				}
				if _, err := Advertised("eth2"); err == nil {
					t.Error("an interface that is not there: got no error")
				}
			})
		})
	}
}

func defaultRoute6() *net.IPNet { return &net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)} }

func network(t *testing.T, s string) *net.IPNet {
	t.Helper()
	_, n, err := net.ParseCIDR(s)
	must(t, err)
	return n
}
