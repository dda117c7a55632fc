// SPDX-License-Identifier: Apache-2.0

package main

import (
	"slices"

	"vxtap/lease"
	"vxtap/tunnel"
)

// peersOf is the one place where a lease becomes a peer. Which leases may is
// decided in lease.Snapshot.Select; what a peer is, in package tunnel. The two
// know nothing of each other.
//
// They are appended to before, whose memory may be that of the last time.
func peersOf(s lease.Selection, before []tunnel.Peer) []tunnel.Peer {
	peers := slices.Grow(before, len(s.Peers))
	for i := range s.Peers {
		l := &s.Peers[i]
		peers = append(peers, tunnel.Peer{Subnet: l.Subnet, VTEP: l.Attrs.PublicIP, MAC: l.Attrs.MAC})
	}
	return peers
}

// peersOfIPv6 does the same with the IPv6 halves.
func peersOfIPv6(s lease.Selection, before []tunnel.Peer) []tunnel.Peer {
	peers := slices.Grow(before, len(s.IPv6Peers))
	for i := range s.IPv6Peers {
		l := &s.IPv6Peers[i]
		peers = append(peers, tunnel.Peer{Subnet: l.IPv6Subnet, VTEP: l.Attrs.PublicIPv6, MAC: l.Attrs.IPv6MAC})
	}
	return peers
}
