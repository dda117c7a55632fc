// SPDX-License-Identifier: Apache-2.0

package host

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
)

// CheckSubnetRoute reports whether a route leads this host's own subnet away
// to some gateway, as another overlay leaves them. Docker's bridge and that
// route would be rivals for every packet to the containers.
func CheckSubnetRoute(subnet netip.Prefix) error {
	routes, err := dump(func() ([]netlink.Route, error) {
		return netlink.RouteListFiltered(familyOf(subnet.Addr()), &netlink.Route{Dst: ipNet(subnet)}, netlink.RT_FILTER_DST)
	})
	if err != nil {
		return fmt.Errorf("list routes: %w", err)
	}
	for _, r := range routes {
		if via := gatewayOf(r); via != "" {
			return fmt.Errorf("a route leads %s, this host's own subnet, away via %s: if nobody needs it: ip route del %s via %s",
				subnet, via, subnet, via)
		}
	}
	return nil
}

// gatewayOf returns the first gateway of r, "" if it has none.
func gatewayOf(r netlink.Route) string {
	if r.Gw != nil {
		return r.Gw.String()
	}
	if via, ok := r.Via.(*netlink.Via); ok { // IPv4 over IPv6 (RFC 5549)
		return "inet6 " + via.Addr.String()
	}
	i := slices.IndexFunc(r.MultiPath, func(h *netlink.NexthopInfo) bool { return h.Gw != nil })
	if i < 0 {
		return ""
	}
	return r.MultiPath[i].Gw.String()
}
