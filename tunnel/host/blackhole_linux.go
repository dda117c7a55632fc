// SPDX-License-Identifier: Apache-2.0

package host

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"regexp"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// routeProtocol marks routes that outlive the device as ours. It is nobody's:
// /etc/iproute2/rt_protos has names for 1 to 18, 42 and 186 to 192.
const routeProtocol = 84

// blackholeRoute drops what is for the subnet and has no other way: without it,
// packets for containers that are no more go round by the default route.
//
// flanneld gives it no metric. It then goes before the bridge's own route
// wherever it was there first, and no container is reached any more (Linux 6.18).
// With the last metric there is, any other route to the subnet goes before it.
func blackholeRoute(subnet netip.Prefix) *netlink.Route {
	return &netlink.Route{
		Dst:      ipNet(subnet),
		Type:     unix.RTN_BLACKHOLE,
		Protocol: routeProtocol,
		Priority: math.MaxInt32,
		Family:   familyOf(subnet.Addr()),
	}
}

// blackholes returns the routes of blackholeRoute that there are, for any subnet
// of the family.
func blackholes(family int) ([]netlink.Route, error) {
	all, err := dump(func() ([]netlink.Route, error) {
		return netlink.RouteListFiltered(family, &netlink.Route{Type: unix.RTN_BLACKHOLE, Protocol: routeProtocol},
			netlink.RT_FILTER_TYPE|netlink.RT_FILTER_PROTOCOL)
	})
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	return all, nil
}

// blackholeSteps are those of a Plan with or without Blackhole.
func blackholeSteps(p Plan) []step {
	others := func() ([]netlink.Route, error) {
		all, err := blackholes(p.family())
		return slices.DeleteFunc(all, func(r netlink.Route) bool {
			if r.Dst == nil {
				return true
			}
			a, ok := addrOf(r.Dst.IP, p.family())
			return !ok || !p.Network.Contains(a) || p.Blackhole.IsValid() && isTo(r, p.Blackhole)
		}), err
	}
	return []step{
		{what: "the blackhole route", holds: func() (bool, error) {
			if !p.Blackhole.IsValid() {
				return true, nil
			}
			all, err := blackholes(p.family())
			return slices.ContainsFunc(all, func(r netlink.Route) bool { return isTo(r, p.Blackhole) }), err
		}, set: func() error { return netlink.RouteReplace(blackholeRoute(p.Blackhole)) }},
		{what: "the blackhole routes of other subnets", holds: func() (bool, error) {
			all, err := others()
			return len(all) == 0, err
		}, set: func() error {
			all, err := others()
			for _, r := range all {
				if err := removeRoute(r); err != nil {
					return err
				}
			}
			return err
		}},
	}
}

func isTo(r netlink.Route, dst netip.Prefix) bool {
	return r.Dst != nil && r.Dst.String() == dst.String()
}

func removeRoute(r netlink.Route) error {
	if err := netlink.RouteDel(&r); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("remove route %s: %w", r.Dst, err)
	}
	return nil
}

// RemoveBlackholes takes away the blackhole routes that Apply set, of both
// families, and one to flanneld, where that is not zero, whoever set it. It returns what it removed.
func RemoveBlackholes(flanneld netip.Prefix) (removed []string, err error) {
	all, err := blackholes(netlink.FAMILY_V4)
	if err != nil {
		return nil, err
	}
	if CheckIPv6() == nil {
		six, err := blackholes(netlink.FAMILY_V6)
		if err != nil {
			return nil, err
		}
		all = append(all, six...)
	}
	if flanneld.IsValid() {
		theirs, err := dump(func() ([]netlink.Route, error) {
			return netlink.RouteListFiltered(familyOf(flanneld.Addr()), &netlink.Route{Dst: ipNet(flanneld), Type: unix.RTN_BLACKHOLE},
				netlink.RT_FILTER_TYPE|netlink.RT_FILTER_DST)
		})
		if err != nil {
			return nil, fmt.Errorf("list routes: %w", err)
		}
		all = append(all, slices.DeleteFunc(theirs, func(r netlink.Route) bool { return r.Protocol == routeProtocol })...)
	}
	for _, r := range all {
		if err := removeRoute(r); err != nil {
			return removed, err
		}
		removed = append(removed, fmt.Sprintf("route blackhole %s", r.Dst))
	}
	return removed, nil
}

// RemoveRoutesInto takes away the direct routes and the blackhole routes into
// network that an earlier run set: for when this one has nothing to do with it.
func RemoveRoutesInto(network netip.Prefix) error {
	if !network.IsValid() || network.Addr().Is6() && CheckIPv6() != nil {
		return nil
	}
	if _, err := RemoveDirectRoutes(network); err != nil {
		return err
	}
	all, err := blackholes(familyOf(network.Addr()))
	if err != nil {
		return err
	}
	for _, r := range all {
		if dst, ok := prefixOf(r.Dst); !ok || !network.Overlaps(dst) {
			continue
		}
		if err := removeRoute(r); err != nil {
			return err
		}
	}
	return nil
}

// RemoveKernelVXLAN deletes the kernel's vxlan devices that have a name of
// flanneld's, and with them their addresses, routes and neighbours. It returns
// what it removed.
func RemoveKernelVXLAN() (removed []string, err error) {
	links, err := dump(netlink.LinkList)
	if err != nil {
		return nil, fmt.Errorf("list devices: %w", err)
	}
	name := regexp.MustCompile(`^flannel(-v6)?\.[0-9]+$`)
	for _, l := range links {
		if l.Type() != "vxlan" || !name.MatchString(l.Attrs().Name) {
			continue
		}
		if err := netlink.LinkDel(l); err != nil {
			return removed, fmt.Errorf("remove device %s: %w", l.Attrs().Name, err)
		}
		removed = append(removed, "kernel vxlan device "+l.Attrs().Name)
	}
	return removed, nil
}
