// SPDX-License-Identifier: Apache-2.0

package bed

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"regexp"

	"vxtap/cmd/vxlab/lab"
	"vxtap/cmd/vxlab/netns"
	"vxtap/encap/ether"
	"vxtap/test/traffic"
)

// DualFlanneld is a host on which a real flanneld runs in a dual-stack network.
type DualFlanneld struct {
	*FlanneldHost
	IPv6VTEP   netip.Addr
	IPv6Subnet netip.Prefix
}

// JoinDualFlanneld is JoinFlanneld in a dual-stack network: the container has
// addresses of both subnets.
func (b *Bed) JoinDualFlanneld(ctx context.Context, binary string, args ...string) *DualFlanneld {
	b.t.Helper()
	h, err := b.JoinBare(ctx)
	if err != nil {
		b.t.Fatal(err)
	}
	return b.DualFlanneldAt(h, binary, args...)
}

// DualFlanneldAt is JoinDualFlanneld for a bare host that is there.
func (b *Bed) DualFlanneldAt(h lab.Host, binary string, args ...string) *DualFlanneld {
	b.t.Helper()
	f := &DualFlanneld{FlanneldHost: b.FlanneldAt(h, binary, args...), IPv6VTEP: h.IPv6VTEP}
	f.IPv6Subnet = f.AwaitSubnet6()
	if err := addContainer6(f.Namespace, f.Container, f.IPv6Subnet); err != nil {
		b.t.Fatal(err)
	}
	return f
}

// AwaitSubnet6 is AwaitSubnet with the IPv6 subnet.
func (f *Flanneld) AwaitSubnet6() netip.Prefix {
	f.t.Helper()
	f.AwaitSubnet()
	m := regexp.MustCompile(`(?m)^FLANNEL_IPV6_SUBNET=(\S+)$`).FindStringSubmatch(f.SubnetFile())
	if m == nil {
		f.t.Fatalf("the subnet file has no IPv6 subnet: %q", f.SubnetFile())
	}
	subnet, err := netip.ParsePrefix(m[1])
	if err != nil {
		f.t.Fatal(err)
	}
	return subnet.Masked()
}

// SubnetFile is what it wrote for container runtimes.
func (f *Flanneld) SubnetFile() string {
	f.t.Helper()
	b, err := os.ReadFile(f.subnetFile)
	if err != nil {
		f.t.Fatal(err)
	}
	return string(b)
}

// HostEnd6 is the host itself, by IPv6.
func (f *DualFlanneld) HostEnd6() traffic.End {
	return traffic.End{Namespace: f.Namespace, Addr: f.IPv6Subnet.Addr()}
}

// ContainerEnd6 is the host's container, by IPv6.
func (f *DualFlanneld) ContainerEnd6() traffic.End {
	return traffic.End{Namespace: f.Container, Addr: f.IPv6Subnet.Addr().Next().Next()}
}

// HostEnd6 is HostEnd with the host's address in the IPv6 overlay.
func (b *Bed) HostEnd6(n int) traffic.End {
	b.t.Helper()
	h := b.Host(n)
	return traffic.End{Namespace: b.Node(h.Node), Addr: h.IPv6Subnet.Addr()}
}

// MAC6 is MAC of flannel-v6.1.
func MAC6(ns *netns.Namespace) (ether.MAC, error) { return macOf(ns, flannelDevice6) }

// flannelDevice6 is what both daemons call the IPv6 device of VNI 1.
const flannelDevice6 = "flannel-v6.1"

func macOf(ns *netns.Namespace, device string) (ether.MAC, error) {
	i, err := ns.Interface(device)
	if err != nil {
		return ether.MAC{}, err
	}
	if len(i.HardwareAddr) != len(ether.MAC{}) {
		return ether.MAC{}, fmt.Errorf("%s has no MAC address", device)
	}
	return ether.MAC(i.HardwareAddr), nil
}

// addContainer6 gives a container of AddContainer, and its bridge, addresses of
// an IPv6 subnet.
func addContainer6(host, container *netns.Namespace, subnet netip.Prefix) error {
	gateway := subnet.Addr().Next()
	for _, step := range []func() error{
		func() error { return host.AddAddr("cni0", netip.PrefixFrom(gateway, subnet.Bits())) },
		func() error { return container.AddAddr("eth0", netip.PrefixFrom(gateway.Next(), subnet.Bits())) },
		func() error { return container.AddRoute(netip.Prefix{}, gateway) },
		func() error { return host.SetSysctl("net.ipv6.conf.all.forwarding", "1") },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}
