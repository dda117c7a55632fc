// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"net/netip"

	"vxtap/cmd/vxlab/lab"
	"vxtap/encap/ether"
	"vxtap/test/bed"
	"vxtap/test/traffic"
)

// addKernel makes two hosts with kernel VXLAN, as flannel's vxlan backend sets
// it up, and puts their leases into etcd: a daemon must not lease their subnets,
// and some are to be their peers.
func (b *bench) addKernel(ctx context.Context) (*contestant, error) {
	etcd, err := b.lab.Namespace(lab.Underlay)
	if err != nil {
		return nil, err
	}
	defer etcd.Close()
	c, err := b.pair(ctx, func(i int, n node) (netip.Prefix, error) {
		subnet := netip.PrefixFrom(netip.AddrFrom4([4]byte{172, 30, byte(201 + i), 0}), 24)
		k, err := bed.SetUpKernel(n.host, n.container, n.VTEP, subnet, b.lab.Options().MTU)
		if err != nil {
			return subnet, err
		}
		b.kernels[i] = k
		_, err = bed.Etcdctl(etcd, b.lab.EtcdURL(), "put", k.LeaseKey(), k.LeaseValue())
		return subnet, err
	})
	if err != nil {
		return nil, err
	}
	for i, k := range b.kernels {
		p := b.kernels[1-i]
		if err := k.AddPeer(p.VTEP, p.Subnet, p.MAC); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// addMixed has the first host of one contestant send to the second one of
// another: one of the two has daemons, the other is the kernel.
func (b *bench) addMixed(ctx context.Context, from, to string) (*contestant, error) {
	near, err := b.build(ctx, from)
	if err != nil {
		return nil, err
	}
	far, err := b.build(ctx, to)
	if err != nil {
		return nil, err
	}
	c := &contestant{mixed: true, ends: map[place][2]traffic.End{}}
	for _, p := range []place{containers, hosts} {
		c.ends[p] = [2]traffic.End{near.ends[p][0], far.ends[p][1]}
	}
	kernel, daemon := b.kernels[0], far
	i := 1
	if from == vxtapName {
		kernel, daemon, i = b.kernels[1], near, 0
	}
	c.daemons = daemon.daemons[i : i+1]
	return c, kernelKnows(kernel, daemon, i)
}

// kernelKnows makes host i of a vxtap contestant a peer of a kernel host. The
// daemon has learnt of the other from etcd.
func kernelKnows(k *bed.Kernel, c *contestant, i int) error {
	n := c.nodes[i]
	device, err := n.host.Interface(vxtapDevice)
	if err != nil {
		return err
	}
	subnet := netip.PrefixFrom(c.ends[hosts][i].Addr, k.Subnet.Bits())
	return k.AddPeer(n.VTEP, subnet, ether.MAC(device.HardwareAddr))
}
