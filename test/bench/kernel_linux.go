// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"net/netip"

	"vxtap/test/bed"
)

// addKernel makes two hosts with kernel VXLAN, as flannel's vxlan backend sets
// it up.
func (b *bench) addKernel(ctx context.Context) (*contestant, error) {
	var kernels [2]*bed.Kernel
	c, err := b.pair(ctx, func(i int, n node) (subnet netip.Prefix, err error) {
		subnet = netip.PrefixFrom(netip.AddrFrom4([4]byte{172, 30, byte(201 + i), 0}), 24)
		kernels[i], err = bed.SetUpKernel(n.host, n.container, n.VTEP, subnet, b.lab.Options().MTU)
		return subnet, err
	})
	if err != nil {
		return nil, err
	}
	for i, k := range kernels {
		p := kernels[1-i]
		if err := k.AddPeer(p.VTEP, p.Subnet, p.MAC); err != nil {
			return nil, err
		}
	}
	return c, nil
}
