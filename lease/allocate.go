// SPDX-License-Identifier: Apache-2.0

package lease

import (
	"net/netip"
	"slices"
)

// ipv4 is how the network is cut in IPv4.
func (c Config) ipv4() plan {
	return plan{family: ipv4, network: c.Network, len: c.SubnetLen, min: c.SubnetMin, max: c.SubnetMax}
}

// ipv6 is how the network is cut in IPv6: into nothing where it has none.
func (c Config) ipv6() plan {
	return plan{family: ipv6, network: c.IPv6Network, len: c.IPv6SubnetLen, min: c.IPv6SubnetMin, max: c.IPv6SubnetMax}
}

// fits reports whether a host may hold k in the network c (flannel,
// isSubnetConfigCompat in pkg/subnet/etcd/local_manager.go): right length,
// between SubnetMin and SubnetMax, and so the IPv6 half where there is one. A
// host without IPv6 has none in a dual-stack network either.
func (c Config) fits(k SubnetKey) bool {
	return c.fitsIPv4(k.IPv4) && (!k.IPv6.IsValid() || c.fitsIPv6(k.IPv6))
}

func (c Config) fitsIPv4(p netip.Prefix) bool { return c.ipv4().fits(p) }

func (c Config) fitsIPv6(p netip.Prefix) bool { return c.EnableIPv6 && c.ipv6().fits(p) }

func (p plan) fits(subnet netip.Prefix) bool {
	return subnet.IsValid() && subnet.Addr().BitLen() == p.bits && subnet.Bits() == p.len && subnet == subnet.Masked() &&
		!subnet.Addr().Less(p.min) && !p.max.Less(subnet.Addr())
}

// ranges are address ranges in order, none overlapping or touching another.
type ranges []stretch

// blocks reports whether subnet keeps subnets of p from being leased. A key that
// names the whole network or more is nobody's lease: no host could have been
// given it, and one such key, put by whoever can write one, would leave nothing
// to any other host.
func (p plan) blocks(subnet netip.Prefix) bool {
	return subnet.IsValid() && subnet.Bits() > p.network.Bits() && subnet.Overlaps(p.network)
}

// held is what e takes of the network in the family of p.
func (p plan) held(e *entry) netip.Prefix {
	if p.bits == ipv6.bits {
		return e.heldIPv6
	}
	return e.held
}

// taken returns what the entries hold of the network, and others beside them,
// whatever their values say: a key with a broken value is somebody's all the same.
func (p plan) taken(entries []*entry, others ranges) ranges {
	all := make(ranges, 0, len(entries)+len(others))
	for _, e := range entries {
		if subnet := p.held(e); p.blocks(subnet) {
			all = append(all, stretchOf(subnet))
		}
	}
	return joined(append(all, others...))
}

// joined puts all in order, and those that touch together. It uses the memory of all.
func joined(all ranges) ranges {
	slices.SortFunc(all, func(a, b stretch) int { return a.first.Compare(b.first) })
	out := all[:0]
	for _, s := range all {
		if n := len(out); n > 0 && !out[n-1].last.Less(s.first.Prev()) {
			if out[n-1].last.Less(s.last) {
				out[n-1].last = s.last
			}
			continue
		}
		out = append(out, s)
	}
	return out
}

// wider returns the subnet of that length which p is in.
func wider(p netip.Prefix, length int) netip.Prefix {
	return netip.PrefixFrom(p.Addr(), length).Masked()
}

// widest returns the entry that blocks the most at once, nil if none blocks more
// than one subnet.
func (p plan) widest(entries []*entry) *entry {
	var widest *entry
	bits := p.len
	for _, e := range entries {
		if subnet := p.held(e); p.blocks(subnet) && subnet.Bits() < bits {
			widest, bits = e, subnet.Bits()
		}
	}
	return widest
}

// after returns the index of the first range that ends at or after address a.
func (r ranges) after(a netip.Addr) int {
	i, _ := slices.BinarySearchFunc(r, a, func(s stretch, a netip.Addr) int { return s.last.Compare(a) })
	return i
}

// overlap reports whether any of p is taken.
func (r ranges) overlap(p netip.Prefix) bool {
	s := stretchOf(p)
	i := r.after(s.first)
	return i < len(r) && !s.last.Less(r[i].first)
}

// free returns the first subnets of p that are not taken, at most limit. It
// takes a step per taken range, not per subnet of the network.
func (p plan) free(r ranges, limit int) []netip.Prefix {
	var out []netip.Prefix
	// Behind the last address there is the zero Addr, which is less than any.
	for a := p.min; !a.Less(p.min) && !p.max.Less(a) && len(out) < limit; {
		subnet := netip.PrefixFrom(a, p.len)
		s := stretchOf(subnet)
		if i := r.after(s.first); i < len(r) && !s.last.Less(r[i].first) {
			// Go on with the first subnet after the range.
			s = stretchOf(netip.PrefixFrom(r[i].last, p.len).Masked())
		} else {
			out = append(out, subnet)
		}
		a = s.last.Next()
	}
	return out
}

// stretch is a range of addresses, both ends included.
type stretch struct{ first, last netip.Addr }

func stretchOf(p netip.Prefix) stretch {
	return stretch{p.Addr(), setBits(p.Addr(), p.Bits(), p.Addr().BitLen())}
}
