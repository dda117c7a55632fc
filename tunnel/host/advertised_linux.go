// SPDX-License-Identifier: Apache-2.0

package host

import (
	"fmt"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Advertised reports whether an interface misses router advertisements when the
// kernel hears none any more: whether a default route through it was advertised,
// or it has a global address that ends and none that stays, or no default route
// beside it. Such a route goes at once when the host begins to forward, the
// address when it ends.
func Advertised(device string) (bool, error) {
	link, err := netlink.LinkByName(device)
	if err != nil {
		return false, fmt.Errorf("find %s: %w", device, err)
	}
	addrs, err := dump(func() ([]netlink.Addr, error) { return netlink.AddrList(link, netlink.FAMILY_V6) })
	if err != nil {
		return false, fmt.Errorf("list addresses of %s: %w", device, err)
	}
	var ends, stays bool
	for _, a := range addrs {
		if a.Scope == unix.RT_SCOPE_UNIVERSE {
			permanent := a.Flags&unix.IFA_F_PERMANENT != 0
			ends, stays = ends || !permanent, stays || permanent
		}
	}
	routes, err := dump(func() ([]netlink.Route, error) { return netlink.RouteList(nil, netlink.FAMILY_V6) })
	if err != nil {
		return false, fmt.Errorf("list IPv6 routes: %w", err)
	}
	isDefault := func(r netlink.Route) bool { return r.Dst == nil || prefixLen(r.Dst) == 0 }
	if slices.ContainsFunc(routes, func(r netlink.Route) bool {
		return isDefault(r) && r.Protocol == unix.RTPROT_RA && r.LinkIndex == link.Attrs().Index
	}) {
		return true, nil
	}
	return ends && (!stays || !slices.ContainsFunc(routes, isDefault)), nil
}
