// SPDX-License-Identifier: Apache-2.0

package lease

import (
	"cmp"
	"encoding/binary"
	"net/netip"
	"slices"
)

// fits reports whether a host may lease k in the network c (flannel,
// isSubnetConfigCompat in pkg/subnet/etcd/local_manager.go): right length,
// between SubnetMin and SubnetMax, and no IPv6 half in a network that has none.
func (c Config) fits(k SubnetKey) bool {
	return c.fitsIPv4(k.IPv4) && (c.EnableIPv6 || !k.IPv6.IsValid())
}

func (c Config) fitsIPv4(p netip.Prefix) bool {
	return p.IsValid() && p.Bits() == c.SubnetLen && p == p.Masked() &&
		!p.Addr().Less(c.SubnetMin) && !c.SubnetMax.Less(p.Addr())
}

// ranges are address ranges in order, none overlapping or touching another.
type ranges []span

// blocks reports whether p keeps subnets of the network c from being leased. A
// key that names the whole network or more is nobody's lease: no host could
// have been given it, and one such key, put by whoever can write one, would
// leave nothing to any other host.
func (c Config) blocks(p netip.Prefix) bool {
	return p.IsValid() && p.Bits() > c.Network.Bits() && p.Overlaps(c.Network)
}

// taken returns what the entries hold of the network, whatever their values
// say: a key with a broken value is somebody's all the same.
func (c Config) taken(entries []*entry) ranges {
	all := make(ranges, 0, len(entries))
	for _, e := range entries {
		if c.blocks(e.held) {
			all = append(all, spanOf(e.held, 0))
		}
	}
	slices.SortFunc(all, func(a, b span) int { return cmp.Compare(a.first, b.first) })
	joined := all[:0]
	for _, s := range all {
		if n := len(joined); n > 0 && uint64(s.first) <= uint64(joined[n-1].last)+1 {
			joined[n-1].last = max(joined[n-1].last, s.last)
			continue
		}
		joined = append(joined, s)
	}
	return joined
}

// widest returns the entry that blocks the most at once, nil if none blocks more
// than one subnet.
func (c Config) widest(entries []*entry) *entry {
	var widest *entry
	bits := c.SubnetLen
	for _, e := range entries {
		if c.blocks(e.held) && e.held.Bits() < bits {
			widest, bits = e, e.held.Bits()
		}
	}
	return widest
}

// after returns the index of the first range that ends at or after address a.
func (r ranges) after(a uint32) int {
	i, _ := slices.BinarySearchFunc(r, a, func(s span, a uint32) int { return cmp.Compare(s.last, a) })
	return i
}

// overlap reports whether any of p is taken.
func (r ranges) overlap(p netip.Prefix) bool {
	s := spanOf(p, 0)
	i := r.after(s.first)
	return i < len(r) && r[i].first <= s.last
}

// free returns the first subnets of c that are not taken, at most limit. It
// takes a step per taken range, not per subnet of the network.
func (c Config) free(r ranges, limit int) []netip.Prefix {
	var out []netip.Prefix
	size := uint64(1) << (32 - c.SubnetLen)
	first, last := spanOf(netip.PrefixFrom(c.SubnetMin, c.SubnetLen), 0), spanOf(netip.PrefixFrom(c.SubnetMax, c.SubnetLen), 0)
	for a := uint64(first.first); a <= uint64(last.first) && len(out) < limit; {
		if i := r.after(uint32(a)); i < len(r) && uint64(r[i].first) < a+size {
			a = (uint64(r[i].last)/size + 1) * size // the first subnet after the range
			continue
		}
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], uint32(a))
		out = append(out, netip.PrefixFrom(netip.AddrFrom4(b), c.SubnetLen))
		a += size
	}
	return out
}
