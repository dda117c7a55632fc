// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"

	"vxtap/tunnel/host"
)

// hostWarnings are those of the side's family.
func (s *side) hostWarnings() []string {
	if s.family != ipv6 {
		return hostWarnings(sysctls, s.device)
	}
	outside := s.d.at().uplink.Name
	advertised, err := host.Advertised(outside)
	return hostWarnings6(sysctls, s.device, outside, err == nil && advertised)
}

// hostWarnings6 is hostWarnings for IPv6. One setting decides for all devices
// there, but that since Linux 6.17 a device may be opened alone
// (force_forwarding; ip6_forward in net/ipv6/ip6_output.c). A device's own
// forwarding says something else: that the host is a router on that link, which
// does not listen to router advertisements unless accept_ra is 2. advertised is
// whether the outside interface lives by those.
func hostWarnings6(root, device, outside string, advertised bool) []string {
	var warnings []string
	all, ok := sysctl(root, "net/ipv6/conf/all/forwarding")
	if own, _ := sysctl(root, "net/ipv6/conf/"+device+"/force_forwarding"); ok && all == "0" && own != "1" {
		warnings = append(warnings, "net.ipv6.conf.all.forwarding=0: containers on this host are cut off from the IPv6 overlay: sysctl -w net.ipv6.conf.all.forwarding=1")
	}
	router, _ := sysctl(root, "net/ipv6/conf/"+outside+"/forwarding")
	accept, _ := sysctl(root, "net/ipv6/conf/"+outside+"/accept_ra")
	if advertised && router == "1" && accept == "1" {
		warnings = append(warnings, fmt.Sprintf("net/ipv6/conf/%[1]s/accept_ra=1: since this host forwards IPv6 it ignores router advertisements, "+
			"and %[1]s loses the IPv6 address or default route that it has of them: sysctl -w net/ipv6/conf/%[1]s/accept_ra=2", outside))
	}
	return warnings
}
