// SPDX-License-Identifier: Apache-2.0

package lease

import (
	"encoding/binary"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"

	"vxtap/encap/ether"
)

// Select splits s into the peers of the host that holds own in the network c,
// and what cannot be one, each with the reason. It keeps no part of s.
//
// Whoever can write to the store can name any subnet and any address, so a
// lease is a peer only if believing it takes nothing from us or from a peer
// that was there before:
//
//   - its subnet is inside the network, and does not overlap ours;
//   - it does not name our own VTEP address or MAC;
//   - its VTEP is not inside the overlay, where datagrams to it would come back
//     into the tunnel;
//   - of two leases whose subnets overlap, the one that was created first
//     stays, at equal revisions the lower key: all hosts choose alike.
//
// Two leases may share a VTEP. flannel routes both, and which of the two the
// host lives on, nobody else can tell: an operator may have reserved it another
// subnet that it takes at its next start.
//
// In a dual-stack network all of this goes for each half of a lease by itself: a
// bad IPv6 half costs the peer nothing but that. A lease without an IPv6 half is
// of a host that has no IPv6, or has not been restarted since the network had
// none.
func (s Snapshot) Select(c Config, own Lease) Selection {
	return new(Selector).Select(s, c, own)
}

// Selector selects again and again, as Snapshot.Select does, and uses its memory
// again: with ten thousand leases a change of one would otherwise take megabytes
// each time. It is for one goroutine.
type Selector struct {
	peers, ipv6Peers []Lease
	spans            []span
}

// Select is Snapshot.Select. The peers of what it returned before, all but their
// number, are no longer good.
func (x *Selector) Select(s Snapshot, c Config, own Lease) Selection {
	sel := Selection{Peers: slices.Grow(x.peers[:0], len(s.Leases)), IPv6Peers: x.ipv6Peers[:0], Rejected: slices.Clone(s.Rejected), More: s.More}
	own4, own6 := ipv4Half(&own), ipv6Half(&own)
	for i := range s.Leases {
		l := &s.Leases[i]
		switch {
		case own.Key != "" && l.Key == own.Key:
			continue
		case l.Attrs.BackendType != backendVXLAN:
			sel.OtherBackend++
			continue
		}
		half := ipv4Half(l)
		if why := half.unfit(c.Network, &own4); why != "" {
			sel.reject(l, why)
		} else {
			sel.Peers = append(sel.Peers, *l)
		}
		if !c.EnableIPv6 || !l.IPv6Subnet.IsValid() {
			continue
		}
		why := l.IPv6Fault
		if why == "" {
			half = ipv6Half(l)
			why = half.unfit(c.IPv6Network, &own6)
		}
		if why != "" {
			sel.reject(l, ipv6Only+why)
		} else {
			sel.IPv6Peers = append(sel.IPv6Peers, *l)
		}
	}
	x.peers, x.ipv6Peers = sel.Peers, sel.IPv6Peers
	sel.Peers = x.dropOverlaps(&sel, sel.Peers, ipv4Half, "")
	sel.IPv6Peers = x.dropOverlaps(&sel, sel.IPv6Peers, ipv6Half, ipv6Only)
	slices.SortStableFunc(sel.Rejected, func(a, b Rejected) int { return strings.Compare(a.Key, b.Key) })
	return sel
}

// ipv6Only begins the reason of a lease that was left out for IPv6.
const ipv6Only = "for IPv6: "

// maxRejected is how many keys a Selection names: those that are no lease, and as
// many that are one.
const maxRejected = 2 * maxRefused

func (s *Selection) reject(l *Lease, why string) {
	if len(s.Rejected) >= maxRejected {
		s.More++
		return
	}
	s.Rejected = append(s.Rejected, rejected(l.Key, why))
}

// half is what a lease says for one address family.
type half struct {
	subnet      netip.Prefix // the zero Prefix: the lease has no such half
	vtep        netip.Addr
	mac         ether.MAC
	ip, network string // names of the fields, for people
}

func ipv4Half(l *Lease) half {
	return half{l.Subnet, l.Attrs.PublicIP, l.Attrs.MAC, "PublicIP", "network"}
}

func ipv6Half(l *Lease) half {
	return half{l.IPv6Subnet, l.Attrs.PublicIPv6, l.Attrs.IPv6MAC, "PublicIPv6", "IPv6 network"}
}

// unfit says why h cannot be a peer of own, whatever other leases say.
func (h *half) unfit(network netip.Prefix, own *half) string {
	switch {
	case !within(network, h.subnet):
		return fmt.Sprintf("subnet %v is outside the %s %v", h.subnet, h.network, network)
	case network.Contains(h.vtep):
		return fmt.Sprintf("%s %v is inside the overlay network %v", h.ip, h.vtep, network)
	case !own.subnet.IsValid():
		return ""
	case h.vtep.IsLinkLocalUnicast() && h.vtep.Is6() && !own.vtep.IsLinkLocalUnicast():
		return fmt.Sprintf("%s %v is link-local, and this host's, %v, is not: it says nothing about the link", h.ip, h.vtep, own.vtep)
	case own.subnet.Overlaps(h.subnet):
		return fmt.Sprintf("subnet %v overlaps this host's, %v", h.subnet, own.subnet)
	case h.vtep == own.vtep:
		return fmt.Sprintf("%s %v is this host's own, which holds %v", h.ip, h.vtep, own.subnet)
	case h.mac == own.mac:
		return fmt.Sprintf("VtepMAC %v is this host's own", h.mac)
	}
	return ""
}

// within reports whether all of p is inside network.
func within(network, p netip.Prefix) bool {
	return p.Bits() >= network.Bits() && network.Contains(p.Addr())
}

// span is a range of addresses of one family, both ends included, and which
// peer's it is.
type span struct {
	first, last point
	peer        int
}

// point is an address as a number.
type point struct{ high, low uint64 }

func (a point) less(b point) bool { return a.high < b.high || a.high == b.high && a.low < b.low }

func pointOf(a netip.Addr) point {
	b := a.As16()
	return point{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}
}

func spanOf(p netip.Prefix, peer int) span {
	first := pointOf(p.Addr())
	last := first
	if host := p.Addr().BitLen() - p.Bits(); host < 64 {
		last.low |= 1<<host - 1
	} else {
		last.low, last.high = math.MaxUint64, last.high|(1<<(host-64)-1)
	}
	return span{first, last, peer}
}

// compareSpans orders by where they begin.
func compareSpans(a, b span) int { return comparePoints(a.first, b.first) }

func comparePoints(a, b point) int {
	switch {
	case a.less(b):
		return -1
	case b.less(a):
		return 1
	}
	return 0
}

// dropOverlaps returns those of peers that stay, and has sel reject those whose
// subnet belongs to an earlier one. of is the half that is looked at.
func (x *Selector) dropOverlaps(sel *Selection, peers []Lease, of func(*Lease) half, which string) []Lease {
	spans := slices.Grow(x.spans[:0], len(peers))
	for i := range peers {
		spans = append(spans, spanOf(of(&peers[i]).subnet, i))
	}
	x.spans = spans
	slices.SortFunc(spans, compareSpans)

	// Ranges that overlap stand side by side now. Without any, which is how it
	// nearly always is, this is one pass.
	lost := make(map[int]int) // peer -> the peer that it lost to
	for i := 0; i < len(spans); {
		last, j := spans[i].last, i+1
		for ; j < len(spans) && !last.less(spans[j].first); j++ {
			if last.less(spans[j].last) {
				last = spans[j].last
			}
		}
		if j > i+1 {
			settle(peers, spans[i:j], lost)
		}
		i = j
	}
	if len(lost) == 0 {
		return peers
	}
	kept := peers[:0:0]
	for i := range peers {
		l := &peers[i]
		if to, ok := lost[i]; ok {
			sel.reject(l, fmt.Sprintf("%ssubnet %v overlaps %v, which was leased before it", which, of(l).subnet, of(&peers[to]).subnet))
			continue
		}
		kept = append(kept, *l)
	}
	return kept
}
