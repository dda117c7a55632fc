// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"net/netip"
	"slices"

	"vxtap/encap/ether"
)

// family is what a switch of one IP version does not share with one of the
// other. A switch carries one version, over an underlay of the same, as flannel
// has it: a host with both has two switches.
type family struct {
	carries ether.Type // what the overlay carries
	other   ether.Type // the other version, for which other is the reason
	foreign Reason
	scoped  bool // it is IPv6, whose addresses have scopes
	minMTU  int
}

// familyOf returns the family of a switch whose own subnet is subnet.
func familyOf(subnet netip.Prefix) family {
	if subnet.Addr().Is6() {
		// Linux takes IPv6 off a device with less than RFC 8200, section 5,
		// demands of a link.
		return family{carries: ether.TypeIPv6, other: ether.TypeIPv4, foreign: IPv4, scoped: true, minMTU: 1280}
	}
	return family{carries: ether.TypeIPv4, other: ether.TypeIPv6, foreign: IPv6, minMTU: 68}
}

// refuses returns why a frame of type t, which is not what the overlay carries,
// is not carried.
func (f *family) refuses(t ether.Type) Reason {
	if t == f.other {
		return f.foreign
	}
	return NotIP
}

// ours returns those of peers that are of the version, inside and outside. Any
// other could not be sent to, and a socket may not even be asked to.
func (f *family) ours(peers []Peer) []Peer {
	is := func(a netip.Addr) bool { return a.Is6() == f.scoped && a.IsValid() && !a.Is4In6() }
	foreign := func(p Peer) bool { return !is(p.Subnet.Addr()) || !is(p.VTEP) }
	if !slices.ContainsFunc(peers, foreign) {
		return peers
	}
	return slices.DeleteFunc(slices.Clone(peers), foreign)
}

// scope returns why an IPv6 packet between these addresses stays on its link, or
// keep. A router forwards nothing to or from a link-local address (RFC 4291,
// section 2.5.6), and nothing that comes out of the tunnel may speak to the
// host as a neighbour on its link would: that is how router advertisements and
// redirects come (RFC 4861). Nothing is lost by it, for there is no neighbour to
// be found: the gateway's entry is permanent.
func scope(src, dst netip.Addr) Reason {
	switch {
	case dst.IsMulticast():
		return Broadcast
	case dst.IsLinkLocalUnicast() || src.IsLinkLocalUnicast():
		return LinkLocal
	}
	return keep
}
