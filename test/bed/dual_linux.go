// SPDX-License-Identifier: Apache-2.0

package bed

import (
	"context"
	"fmt"
	"net/netip"
	"strings"

	"vxtap/cmd/vxlab/netns"
	"vxtap/encap/ether"
	"vxtap/encap/vxlan"
)

// DualKernel is a kernel VXLAN host of both families, as a flanneld sets one up
// in a dual-stack network: a device for each, and one container with an address
// of each.
type DualKernel struct {
	IPv4, IPv6 *Kernel
}

// LeaseKey and LeaseValue are the host's lease as flanneld writes it.
func (k *DualKernel) LeaseKey() string {
	return fmt.Sprintf("%s&%s-%d", k.IPv4.LeaseKey(), k.IPv6.Subnet.Addr(), k.IPv6.Subnet.Bits())
}

// LeaseValue is the value that goes with LeaseKey.
func (k *DualKernel) LeaseValue() string {
	v4 := strings.Replace(strings.TrimSuffix(k.IPv4.LeaseValue(), "}"), "null", `"`+k.IPv6.VTEP.String()+`"`, 1)
	return fmt.Sprintf(`%s,"BackendV6Data":{"VNI":1,"VtepMAC":"%s"}}`, v4, k.IPv6.MAC)
}

// JoinDualKernel is JoinKernel for both families.
func (b *Bed) JoinDualKernel(ctx context.Context, subnet, subnet6 netip.Prefix) *DualKernel {
	b.t.Helper()
	h, err := b.JoinBare(ctx)
	if err != nil {
		b.t.Fatal(err)
	}
	ns, container := b.Node(h.Node), tempNamespace(b.t, h.Namespace+"k")
	k := &DualKernel{}
	if k.IPv4, err = SetUpKernel(ns, container, h.VTEP, subnet, b.Options().MTU); err != nil {
		b.t.Fatal(err)
	}
	if k.IPv6, err = addIPv6(ns, container, h.IPv6VTEP, subnet6, b.Options().MTU); err != nil {
		b.t.Fatal(err)
	}
	for _, p := range b.Hosts() {
		if p.Bare {
			continue
		}
		if err := k.IPv4.AddPeer(p.VTEP, p.Subnet, p.MAC); err != nil {
			b.t.Fatal(err)
		}
		if s, err := b.status(ctx, p); err == nil && s.IPv6 != nil && s.IPv6.Subnet.IsValid() {
			if err := k.IPv6.AddPeer(p.IPv6VTEP, p.IPv6Subnet, s.IPv6.MAC); err != nil {
				b.t.Fatal(err)
			}
		}
	}
	b.Etcdctl("put", k.LeaseKey(), k.LeaseValue())
	return k
}

// addIPv6 gives a kernel VXLAN host, and the container that it has, IPv6.
func addIPv6(ns, container *netns.Namespace, vtep netip.Addr, subnet netip.Prefix, uplinkMTU int) (*Kernel, error) {
	k := &Kernel{
		Namespace: ns, Container: container, VTEP: vtep, Subnet: subnet,
		MAC: ether.RandomMAC(), MTU: uplinkMTU - vxlan.OverheadIPv6,
	}
	for _, step := range []func() error{
		func() error { return k.addDevice(nil) },
		func() error { return ns.SetMTU("cni0", k.MTU) },
		func() error { return ns.SetMTU("veth0", k.MTU) },
		func() error { return container.SetMTU("eth0", k.MTU) },
		func() error { return addContainer6(ns, container, subnet) },
	} {
		if err := step(); err != nil {
			return nil, fmt.Errorf("IPv6 of kernel VXLAN host %s: %w", ns.Name(), err)
		}
	}
	return k, nil
}
