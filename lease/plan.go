// SPDX-License-Identifier: Apache-2.0

package lease

import (
	"fmt"
	"net/netip"
	"strings"
)

// family has the rules of one address family (flannel, CheckNetworkConfig in
// pkg/subnet/config.go).
type family struct {
	prefix     string // of the field names
	bits       int
	usualLen   int // SubnetLen where the network is large enough for four of them
	smallest   int // longest prefix of a network that may leave SubnetLen out
	longest    int // longest SubnetLen: a tunnel and a bridge need addresses
	networkFor string
	addressFor string
}

var (
	ipv4 = family{"", 32, 24, 28, 30, "10.5.0.0/16", "10.5.1.0"}
	ipv6 = family{"IPv6", 128, 64, 124, 126, "fd00:5::/48", "fd00:5:0:1::"}
)

// plan is how a network is cut into subnets, in one family.
type plan struct {
	family
	network  netip.Prefix
	len      int
	min, max netip.Addr
}

// readPlan reads the four fields of family f, each for itself.
func readPlan(o *object, f family) plan {
	p := plan{family: f}
	if s, ok := quoted(o, f.prefix+"Network", f.networkFor); ok {
		v, err := netip.ParsePrefix(s)
		if err != nil || v.Addr().BitLen() != f.bits || v.Addr().Is4In6() {
			o.faultIn(f.prefix+"Network", "%sNetwork %q is no network: put one as %s", f.prefix, clip(s), f.networkFor)
		} else {
			p.network = v.Masked()
		}
	}
	p.len = int(number(o, f.prefix+"SubnetLen", 0, 0, int64(f.bits)))
	p.min = readAddr(o, f, "SubnetMin")
	p.max = readAddr(o, f, "SubnetMax")
	return p
}

func readAddr(o *object, f family, name string) netip.Addr {
	name = f.prefix + name
	if f.bits == ipv6.bits && o.nulls[name] { // a pointer in flannel, which null sets to none
		delete(o.fields, name)
		return netip.Addr{}
	}
	s, ok := quoted(o, name, f.addressFor)
	if !ok {
		return netip.Addr{}
	}
	a, err := netip.ParseAddr(s)
	if err != nil || a.BitLen() != f.bits || a.Is4In6() || a.Zone() != "" {
		o.faultIn(name, "%s %q is no address: put one as %s", name, clip(s), f.addressFor)
		return netip.Addr{}
	}
	if a.IsUnspecified() { // flannel's own word for the default
		delete(o.fields, name)
		return netip.Addr{}
	}
	return a
}

// quoted returns the text of a field that holds a network or an address, false
// where there is none. flanneld takes the bytes between the quotes as they are,
// and so trips over a null and over what JSON may escape, such as the \/ that
// PHP writes.
func quoted(o *object, name, example string) (string, bool) {
	if o.nulls[name] {
		o.faultIn(name, "%s is null, which flanneld does not start with: put it as %q, or leave it out", name, example)
		return "", false
	}
	raw, ok := o.fields[name]
	if !ok {
		return "", false
	}
	if strings.Contains(string(raw), `\`) {
		o.faultIn(name, `%s is %s, with a backslash, which flanneld does not understand: put it as %q`, name, clip(string(raw)), example)
		return "", false
	}
	before := len(o.faults)
	s := field(o, name, "", fmt.Sprintf("it in quotes, as %q", example))
	return s, len(o.faults) == before
}

// check compares the fields with each other, but for those that have a fault
// already, and returns p with the defaults filled in.
func (p plan) check(o *object) plan {
	if !p.network.IsValid() && !o.bad[p.prefix+"Network"] {
		o.fault("there is no %sNetwork: put the overlay's, as %s", p.prefix, p.networkFor)
	}
	fits := !o.bad[p.prefix+"SubnetLen"] && p.checkLen(o)
	// The first subnet is never leased by default: its network address is the
	// whole network's, which old software takes for a broadcast.
	if !p.min.IsValid() && p.isWhole(o, "SubnetMin", fits) {
		p.min = setBits(p.network.Addr(), p.len-1, p.len)
	}
	if !p.max.IsValid() && p.isWhole(o, "SubnetMax", fits) {
		p.max = setBits(p.network.Addr(), p.network.Bits(), p.len)
	}
	p.checkBound(o, "SubnetMin", p.min, fits)
	p.checkBound(o, "SubnetMax", p.max, fits)
	if p.min.IsValid() && p.max.IsValid() && p.max.Less(p.min) {
		o.fault("%sSubnetMin %v is above %sSubnetMax %v, so that there is no subnet to lease: swap them", p.prefix, p.min, p.prefix, p.max)
	}
	return p
}

// isWhole reports whether a bound that is not there has its default: one that is
// there with a fault has none, and there is none without network and length.
func (p plan) isWhole(o *object, bound string, fits bool) bool {
	return fits && p.network.IsValid() && !o.bad[p.prefix+bound]
}

func (p *plan) checkLen(o *object) bool {
	bits := p.network.Bits()
	switch {
	case p.len == 0 && bits > p.smallest:
		o.fault("%sNetwork %v is too small: put a /%d or larger", p.prefix, p.network, p.smallest)
		return false
	case p.len == 0:
		p.len = max(p.usualLen, bits+2)
		return true
	case p.len > p.longest:
		o.fault("%sSubnetLen is %d: put at most %d, so that a subnet has addresses for containers", p.prefix, p.len, p.longest)
		return false
	case p.len < bits+2:
		// The first subnet is not used, so half of two would be one.
		o.fault("%sSubnetLen is %d, and %sNetwork %v must hold at least four subnets: put %d or more", p.prefix, p.len, p.prefix, p.network, bits+2)
		return false
	}
	return true
}

// checkBound looks at a bound, the zero Addr if it has a fault already; fits says
// whether the length of subnets is known.
func (p plan) checkBound(o *object, name string, a netip.Addr, fits bool) {
	if !a.IsValid() {
		return
	}
	if p.network.IsValid() && !p.network.Contains(a) {
		o.fault("%s%s %v is outside %sNetwork %v", p.prefix, name, a, p.prefix, p.network)
		return
	}
	if first := netip.PrefixFrom(a, p.len).Masked().Addr(); fits && first != a {
		o.fault("%s%s %v is not the first address of a /%d: put %v", p.prefix, name, a, p.len, first)
	}
}

// setBits sets the bits from, from+1, ... to-1 of a, counted from the left.
func setBits(a netip.Addr, from, to int) netip.Addr {
	b := a.AsSlice()
	for i := from; i < to; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	v, _ := netip.AddrFromSlice(b) // of a's own length
	return v
}

// refuseOverlap refuses a network that has addresses of one of others.
func (o *object) refuseOverlap(name string, network netip.Prefix, instead string, others ...string) {
	if !network.IsValid() {
		return
	}
	for _, s := range others {
		if bad := netip.MustParsePrefix(s); network.Overlaps(bad) {
			o.fault("%s %v overlaps %v, whose addresses no host can have; put a private network instead, as %s", name, network, bad, instead)
		}
	}
}
