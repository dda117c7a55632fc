// SPDX-License-Identifier: Apache-2.0

package host

import (
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Advertised reports whether an interface loses its IPv6 when the kernel hears no
// router advertisements any more: whether none of its global addresses is
// permanent, or a default route through it was advertised.
func Advertised(device string) (bool, error) {
	link, err := netlink.LinkByName(device)
	if err != nil {
		return false, fmt.Errorf("find %s: %w", device, err)
	}
	addrs, err := dump(func() ([]netlink.Addr, error) { return netlink.AddrList(link, netlink.FAMILY_V6) })
	if err != nil {
		return false, fmt.Errorf("list addresses of %s: %w", device, err)
	}
	var passing, permanent bool
	for _, a := range addrs {
		if a.Scope != unix.RT_SCOPE_UNIVERSE {
			continue
		}
		stays := a.Flags&unix.IFA_F_PERMANENT != 0
		passing, permanent = passing || !stays, permanent || stays
	}
	if passing && !permanent {
		return true, nil
	}
	routes, err := dump(func() ([]netlink.Route, error) {
		return netlink.RouteListFiltered(netlink.FAMILY_V6, &netlink.Route{LinkIndex: link.Attrs().Index, Protocol: unix.RTPROT_RA},
			netlink.RT_FILTER_OIF|netlink.RT_FILTER_PROTOCOL)
	})
	if err != nil {
		return false, fmt.Errorf("list routes of %s: %w", device, err)
	}
	for _, r := range routes {
		if r.Dst == nil || prefixLen(r.Dst) == 0 {
			return true, nil
		}
	}
	return false, nil
}
