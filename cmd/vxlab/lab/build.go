// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"vxtap/cmd/vxlab/netns"
)

// Names of devices. They are the same on every node: each has its own
// namespace.
const (
	uplink    = "eth0"
	bridge    = "br0"   // of the underlay
	cniBridge = "cni0"  // of a host, as flannel's CNI plugin calls it
	hostEnd   = "veth0" // the container's veth pair, in the host
)

// inOrder calls the steps until one fails.
func inOrder(steps ...func() error) error {
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// buildUnderlay makes the node net with its bridge.
func (l *Lab) buildUnderlay() error {
	ns, err := netns.Create(NamespaceName(l.options.Name, Underlay))
	if err != nil {
		return err
	}
	defer ns.Close()
	return inOrder(
		func() error { return ns.AddBridge(bridge, l.options.MTU) },
		func() error {
			return ns.AddAddr(bridge, netip.PrefixFrom(l.options.gateway(), l.options.Underlay.Bits()))
		},
		func() error { return ns.SetUp(bridge) },
	)
}

// addHost makes host n, which has no daemon yet, and puts it on record. The
// caller takes away what is there already if it fails.
func (l *Lab) addHost(n int, h hostState) error {
	if n > l.options.maxHosts() {
		return fmt.Errorf("the underlay %s has no room for %s", l.options.Underlay, HostNode(n))
	}
	if err := os.MkdirAll(l.runDir(n), 0o755); err != nil {
		return fmt.Errorf("make host %s: %w", HostNode(n), err)
	}
	net, err := l.open(Underlay)
	if err != nil {
		return err
	}
	defer net.Close()
	host, err := netns.Create(NamespaceName(l.options.Name, HostNode(n)))
	if err != nil {
		return err
	}
	defer host.Close()
	err = inOrder(
		func() error { return netns.AddVeth(host, uplink, net, HostNode(n), l.options.MTU) },
		func() error { return net.Attach(bridge, HostNode(n)) },
		func() error { return net.SetUp(HostNode(n)) },
		func() error {
			return host.AddAddr(uplink, netip.PrefixFrom(l.options.vtep(n), l.options.Underlay.Bits()))
		},
		func() error { return l.addIPv6(host, n) },
		func() error { return host.SetUp(uplink) },
		// vxtap finds its uplink by the default route if it is not told.
		func() error { return host.AddRoute(netip.Prefix{}, l.options.gateway()) },
		func() error { return host.SetSysctl("net.ipv4.ip_forward", "1") },
	)
	if err == nil && !h.Bare {
		err = l.addContainer(host, n)
	}
	if err != nil {
		return err
	}
	l.state.Hosts = append(l.state.Hosts, h)
	l.daemons = append(l.daemons, nil)
	return l.state.write()
}

// addContainer makes the container of host n and the bridge before it, down
// and without addresses: those follow from the lease.
func (l *Lab) addContainer(host *netns.Namespace, n int) error {
	container, err := netns.Create(NamespaceName(l.options.Name, ContainerNode(n)))
	if err != nil {
		return err
	}
	defer container.Close()
	return inOrder(
		func() error { return host.AddBridge(cniBridge, 0) },
		func() error { return netns.AddVeth(host, hostEnd, container, uplink, 0) },
		func() error { return host.Attach(cniBridge, hostEnd) },
	)
}

// gatewayAddr and containerAddr are the two addresses in use of a leased
// subnet, as host-local IPAM gives them out.
func gatewayAddr(subnet netip.Prefix) netip.Addr   { return subnet.Addr().Next() }
func containerAddr(subnet netip.Prefix) netip.Addr { return subnet.Addr().Next().Next() }

// address gives bridge and container of host n the addresses of a subnet, in
// place of those that they have.
func (l *Lab) address(n int, subnet, subnet6 netip.Prefix, mtu int) error {
	host, err := l.open(HostNode(n))
	if err != nil {
		return err
	}
	defer host.Close()
	container, err := l.open(ContainerNode(n))
	if err != nil {
		return err
	}
	defer container.Close()
	gateway := gatewayAddr(subnet)
	return inOrder(
		func() error { return container.SetDown(uplink) }, // its default route goes
		func() error { return container.DeleteAddrs(uplink) },
		func() error { return host.SetDown(cniBridge) }, // and its IPv6 addresses
		func() error { return host.DeleteAddrs(cniBridge) },
		func() error { return container.SetMTU(uplink, mtu) },
		func() error { return host.SetMTU(hostEnd, mtu) },
		func() error { return host.SetMTU(cniBridge, mtu) },
		func() error { return host.AddAddr(cniBridge, netip.PrefixFrom(gateway, subnet.Bits())) },
		func() error {
			return container.AddAddr(uplink, netip.PrefixFrom(containerAddr(subnet), subnet.Bits()))
		},
		func() error { return address6(host, container, subnet6) },
		func() error { return host.SetUp(hostEnd) },
		func() error { return host.SetUp(cniBridge) },
		func() error { return container.SetUp(uplink) },
		func() error { return container.AddRoute(netip.Prefix{}, gateway) },
		func() error { return route6(container, subnet6) },
	)
}

// neighboursOf is how many entries the kernel's neighbour table gets when n
// hosts all talk to each other: each has every other one, the underlay's
// gateway and its container, which has it.
func neighboursOf(n int) int { return n*(n-1) + 4*n }

// neighbourLimit returns how many entries the table holds, for all namespaces
// of the machine together (arp(7)): beyond it, hosts do not find each other. It
// returns 0 where that is not to be seen.
func neighbourLimit() int {
	b, err := os.ReadFile("/proc/sys/net/ipv4/neigh/default/gc_thresh3")
	if err != nil {
		return 0
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return 0
	}
	return n
}

// ownIdentity names this process.
func ownIdentity() (identity, error) {
	id, err := identify(os.Getpid())
	if err != nil {
		return identity{}, errors.Join(errors.New("find own start time"), err)
	}
	return id, nil
}
