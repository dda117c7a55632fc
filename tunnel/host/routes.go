// SPDX-License-Identifier: Apache-2.0

package host

import (
	"net/netip"

	"vxtap/encap/ether"
)

// PeerRoute is a peer that the kernel may have to know by itself.
type PeerRoute struct {
	Subnet netip.Prefix // of the overlay, that it leases
	VTEP   netip.Addr   // its address in the underlay
	MAC    ether.MAC    // of its VTEP
}

// RoutePlan says which peers the kernel is to know one by one, beside or instead
// of the one route that Apply sets.
type RoutePlan struct {
	Device  string
	Network netip.Prefix // the whole overlay, which all Subnets are in
	Former  netip.Prefix // of an earlier run, whose direct routes are to go; zero: there was none
	// PerPeer asks for flannel's entries of each peer (pkg/backend/vxlan,
	// handleSubnetEvents): a permanent neighbour at the subnet's first address, which
	// has the VTEP's MAC, and an on-link route to the subnet by way of it.
	PerPeer bool
	// Direct asks for a plain route to each peer on a link of this host's, and
	// nothing else for it: what is for it does not enter the tunnel.
	Direct bool
	Peers  []PeerRoute // none twice
}

// RouteReport is how the routes stand.
type RouteReport struct {
	Direct map[netip.Prefix]bool // the subnets that are reached by a direct route; the caller's
	Mended []string              // what was set before and had been taken away or changed, as "the route to 10.5.3.0/24"
	Notes  []string              // for each peer that somebody else's route leads to, a sentence that says so
	// Refused has a sentence for each peer that has no direct route because the
	// kernel did not take it just now. The tunnel leads to it.
	Refused []string
}

// Routes keeps the kernel's entries for single peers. It remembers what it has
// set, so that it takes away nothing else. Only direct routes outlive it and the
// device; they have a protocol number of ours, by which the next run finds them.
//
// The zero Routes is ready; one goroutine at a time may use it.
type Routes struct {
	plan  RoutePlan              // the last, without its peers
	begun bool                   // what an earlier run left is gone, or taken over
	set   map[netip.Prefix]entry // of the peers of the last plan, and those that could not be removed
	notes map[netip.Prefix]string
}

// entry is what the kernel was given for a peer.
type entry struct {
	PeerRoute
	way
}

// way is how the kernel is to reach one peer. The zero way is no entry at all:
// the aggregate route leads there.
type way struct {
	link   int        // of the route; 0: there is none of ours
	via    netip.Addr // the gateway
	mac    ether.MAC  // of a permanent neighbour at via; zero: there is none
	direct bool
}
