// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"net/netip"
	"slices"

	"vxtap/cmd/vxlab/netns"
)

// Look is Hosts with the underlay addresses that the hosts have now: zero where
// there is none. A host that cannot be looked at, by somebody who is not root for
// example, has those that the lab gave it.
func (l *Lab) Look() []Host {
	hosts := l.Hosts()
	for i := range hosts {
		h := &hosts[i]
		host, err := l.open(h.Node)
		if err != nil {
			continue
		}
		addrs, err := host.Addrs(uplink)
		host.Close()
		if err == nil {
			h.VTEP, h.IPv6VTEP = still(addrs, h.VTEP), still(addrs, h.IPv6VTEP)
		}
	}
	return hosts
}

// still returns was if it is among addrs, else the first of its family that other
// hosts can use, else the zero Addr.
func still(addrs []netip.Addr, was netip.Addr) netip.Addr {
	if slices.Contains(addrs, was) {
		return was
	}
	for _, a := range addrs {
		if a.BitLen() == was.BitLen() && !a.IsLinkLocalUnicast() {
			return a
		}
	}
	return netip.Addr{}
}

// readyURLs are where a daemon may say that it is ready: everywhere, or with
// -healthz-ip at an address that its host has now, whatever the lab once gave it.
func readyURLs(host *netns.Namespace) []string {
	addrs, _ := host.Addrs(uplink) // without any it is asked by the loopback
	urls := make([]string, 0, 1+len(addrs))
	for _, a := range append([]netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1})}, addrs...) {
		urls = append(urls, "http://"+netip.AddrPortFrom(a, healthPort).String()+"/readyz")
	}
	return urls
}
