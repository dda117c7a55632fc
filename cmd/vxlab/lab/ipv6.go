// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"errors"
	"fmt"
	"net/netip"

	"vxtap/cmd/vxlab/netns"
)

// checkIPv6 looks at what Options say of IPv6, where they say anything.
func (o Options) checkIPv6() error {
	under, over := o.IPv6Underlay, o.IPv6Network
	is6 := func(p netip.Prefix) bool { return p.Addr().Is6() && !p.Addr().Is4In6() && p == p.Masked() }
	switch {
	case !under.IsValid() && !over.IsValid():
		return nil
	case !under.IsValid():
		return errors.New("an IPv6 network needs an IPv6 underlay")
	case !is6(under) || over.IsValid() && !is6(over):
		return fmt.Errorf("IPv6 underlay %s and network %s must be IPv6, without host bits", under, over)
	case under.Bits() > 112:
		return fmt.Errorf("IPv6 underlay %s has no room for the hosts: /112 has", under)
	case over.IsValid() && under.Overlaps(over):
		return fmt.Errorf("IPv6 underlay %s and network %s overlap", under, over)
	}
	return nil
}

// vtep6 is the IPv6 address of host n in the underlay; zero where there is none.
func (o Options) vtep6(n int) netip.Addr {
	if !o.IPv6Underlay.IsValid() {
		return netip.Addr{}
	}
	b := o.IPv6Underlay.Addr().As16()
	b[14], b[15] = byte((firstHost+n)>>8), byte(firstHost+n)
	return netip.AddrFrom16(b)
}

// addIPv6 gives host n its address in the IPv6 underlay, if there is one, before
// its uplink is up.
func (l *Lab) addIPv6(host *netns.Namespace, n int) error {
	if !l.options.IPv6Underlay.IsValid() {
		return nil
	}
	return inOrder(
		func() error {
			return host.AddAddr(uplink, netip.PrefixFrom(l.options.vtep6(n), l.options.IPv6Underlay.Bits()))
		},
		func() error { return host.SetSysctl("net.ipv6.conf.all.forwarding", "1") },
	)
}

// address6 gives bridge and container, which are down, the first two addresses
// of an IPv6 subnet. Those that they had went with the link.
func address6(host, container *netns.Namespace, subnet netip.Prefix) error {
	if !subnet.IsValid() {
		return nil
	}
	return inOrder(
		func() error { return host.AddAddr(cniBridge, netip.PrefixFrom(gatewayAddr(subnet), subnet.Bits())) },
		func() error {
			return container.AddAddr(uplink, netip.PrefixFrom(containerAddr(subnet), subnet.Bits()))
		},
	)
}

// route6 gives the container, which is up, its way out.
func route6(container *netns.Namespace, subnet netip.Prefix) error {
	if !subnet.IsValid() {
		return nil
	}
	return container.AddRoute(netip.Prefix{}, gatewayAddr(subnet))
}
