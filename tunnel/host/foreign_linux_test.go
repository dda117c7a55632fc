// SPDX-License-Identifier: Apache-2.0

package host

import (
	"net"
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func TestCheckSubnetRoute(t *testing.T) {
	subnet := netip.MustParsePrefix("10.1.74.0/24")
	gateway, other := net.IPv4(192, 0, 2, 9).To4(), net.IPv4(192, 0, 2, 8).To4()
	const fault = "a route leads 10.1.74.0/24, this host's own subnet, away via 192.0.2.9: if nobody needs it: ip route del 10.1.74.0/24 via 192.0.2.9"
	tests := []struct {
		name  string
		route func(link int) *netlink.Route
		want  string // "": no error
	}{
		{"Docker's bridge", func(link int) *netlink.Route {
			return &netlink.Route{Dst: ipNet(subnet), LinkIndex: link, Scope: netlink.SCOPE_LINK}
		}, ""},
		{"another subnet", func(int) *netlink.Route {
			return &netlink.Route{Dst: ipNet(netip.MustParsePrefix("110.1.74.0/24")), Gw: gateway}
		}, ""},
		{"a route for all subnets", func(int) *netlink.Route {
			return &netlink.Route{Dst: ipNet(netip.MustParsePrefix("10.1.0.0/16")), Gw: gateway}
		}, ""},
		{"a gateway", func(int) *netlink.Route { return &netlink.Route{Dst: ipNet(subnet), Gw: gateway} }, fault},
		{"two gateways", func(link int) *netlink.Route {
			return &netlink.Route{Dst: ipNet(subnet), MultiPath: []*netlink.NexthopInfo{{LinkIndex: link, Gw: gateway}, {LinkIndex: link, Gw: other}}}
		}, fault},
		{"a gateway in another table", func(int) *netlink.Route { return &netlink.Route{Dst: ipNet(subnet), Gw: gateway, Table: 7} }, ""},
		{"a gateway of another family", func(link int) *netlink.Route {
			return &netlink.Route{Dst: ipNet(subnet), LinkIndex: link, Via: &netlink.Via{AddrFamily: unix.AF_INET6, Addr: net.ParseIP("fe80::9")}}
		}, "a route leads 10.1.74.0/24, this host's own subnet, away via inet6 fe80::9: if nobody needs it: ip route del 10.1.74.0/24 via inet6 fe80::9"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inNamespace(t, func() {
				link := addInterface(t, "u0", "192.0.2.1/24")
				must(t, netlink.RouteAdd(tt.route(link.Attrs().Index)))
				got := ""
				if err := CheckSubnetRoute(subnet); err != nil {
					got = err.Error()
				}
				if got != tt.want {
					t.Errorf("got %q, want %q", got, tt.want)
				}
			})
		})
	}
}
