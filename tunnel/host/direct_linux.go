// SPDX-License-Identifier: Apache-2.0

package host

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// isDirect reports whether r is a direct route of ours, or of another run.
func isDirect(r *netlink.Route) bool {
	return r.Protocol == routeProtocol && r.Type == unix.RTN_UNICAST
}

// onLink returns the link on which the kernel would look for addr itself, and not
// for a gateway: flannel's question (pkg/backend/vxlan, handleSubnetEvents). Links
// without neighbours, where a gateway means nothing, are none: what is sent there
// for a container would be judged by its own destination, as WireGuard does.
func (k *kernel) onLink(addr netip.Addr) (link int, ok bool) {
	if link, known := k.links[addr]; known {
		return link, link != 0
	}
	routes, err := k.h.RouteGet(addr.AsSlice())
	if err == nil && len(routes) == 1 {
		r := routes[0]
		if r.Gw == nil && r.Via == nil && len(r.MultiPath) == 0 && r.Type == unix.RTN_UNICAST && r.LinkIndex != k.device && k.hasNeighbours(r.LinkIndex) {
			link = r.LinkIndex
		}
	}
	k.links[addr] = link
	return link, link != 0
}

func (k *kernel) hasNeighbours(link int) bool {
	if yes, known := k.plain[link]; known {
		return yes
	}
	l, err := k.h.LinkByIndex(link)
	yes := err == nil && l.Attrs().Flags&(net.FlagPointToPoint|net.FlagLoopback) == 0 && l.Attrs().RawFlags&unix.IFF_NOARP == 0
	k.plain[link] = yes
	return yes
}

// isTaken reports whether another route is where w was set for dst: to replace
// that would take somebody else's away. Where none is, or a narrower one is in the
// way of the question, it is false.
func (k *kernel) isTaken(dst netip.Prefix, w way) bool {
	routes, err := k.h.RouteGetWithOptions(dst.Addr().AsSlice(), &netlink.RouteGetOptions{FIBMatch: true})
	if err != nil || len(routes) != 1 {
		return false
	}
	found, ok := prefixOf(routes[0].Dst)
	return ok && found == dst && !isAs(&routes[0], w)
}

// removeStale removes the direct routes of have that are not in set: those of
// peers that went while no daemon ran.
func (k *kernel) removeStale(have *present, set map[netip.Prefix]entry) error {
	var errs failures
	for dst, routes := range have.routes {
		if _, ok := set[dst]; ok {
			continue // take has seen to it
		}
		for _, r := range routes {
			if isDirect(&r) {
				errs.add(k.removeRoute(&r))
			}
		}
	}
	return errs.err()
}

// RemoveDirectRoutes takes away the direct routes into a part of the overlay, or
// all where that is zero, that Routes has set, in this run or an earlier one. It
// returns what it removed.
func RemoveDirectRoutes(part netip.Prefix) (removed []string, err error) {
	families := []int{netlink.FAMILY_V4}
	if CheckIPv6() == nil {
		families = append(families, netlink.FAMILY_V6)
	}
	for _, family := range families {
		all, err := dump(func() ([]netlink.Route, error) {
			return netlink.RouteListFiltered(family, &netlink.Route{Type: unix.RTN_UNICAST, Protocol: routeProtocol},
				netlink.RT_FILTER_TYPE|netlink.RT_FILTER_PROTOCOL)
		})
		if err != nil {
			return removed, fmt.Errorf("list routes: %w", err)
		}
		for _, r := range all {
			if dst, ok := prefixOf(r.Dst); part.IsValid() && !(ok && dst.Overlaps(part)) {
				continue
			}
			if err := removeRoute(r); err != nil {
				return removed, err
			}
			removed = append(removed, fmt.Sprintf("route %s via %s", r.Dst, r.Gw))
		}
	}
	return removed, nil
}
