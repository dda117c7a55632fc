// SPDX-License-Identifier: Apache-2.0

package lease

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"
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
func (s Snapshot) Select(c Config, own Lease) Selection {
	return new(Selector).Select(s, c, own)
}

// Selector selects again and again, as Snapshot.Select does, and uses its memory
// again: with ten thousand leases a change of one would otherwise take megabytes
// each time. It is for one goroutine.
type Selector struct {
	peers []Lease
	spans []span
}

// Select is Snapshot.Select. The Peers of what it returned before, all but their
// number, are no longer good.
func (x *Selector) Select(s Snapshot, c Config, own Lease) Selection {
	sel := Selection{Peers: slices.Grow(x.peers[:0], len(s.Leases)), Rejected: slices.Clone(s.Rejected)}
	for i := range s.Leases {
		l := &s.Leases[i]
		switch {
		case own.Key != "" && l.Key == own.Key:
			continue
		case l.Attrs.BackendType != backendVXLAN:
			sel.OtherBackend++
			continue
		}
		if why := unfitPeer(l, c, &own); why != "" {
			sel.Rejected = append(sel.Rejected, rejected(l.Key, why))
			continue
		}
		sel.Peers = append(sel.Peers, *l)
	}
	x.peers = sel.Peers
	x.spans = sel.dropOverlaps(x.spans)
	slices.SortFunc(sel.Rejected, func(a, b Rejected) int { return strings.Compare(a.Key, b.Key) })
	return sel
}

// unfitPeer says why l cannot be a peer of own, whatever other leases say.
func unfitPeer(l *Lease, c Config, own *Lease) string {
	switch {
	case !within(c.Network, l.Subnet):
		return fmt.Sprintf("subnet %v is outside the network %v", l.Subnet, c.Network)
	case c.Network.Contains(l.Attrs.PublicIP):
		return fmt.Sprintf("PublicIP %v is inside the overlay network %v", l.Attrs.PublicIP, c.Network)
	case own.Key == "":
		return ""
	case own.Subnet.Overlaps(l.Subnet):
		return fmt.Sprintf("subnet %v overlaps this host's, %v", l.Subnet, own.Subnet)
	case l.Attrs.PublicIP == own.Attrs.PublicIP:
		return fmt.Sprintf("PublicIP %v is this host's own, which holds %v", l.Attrs.PublicIP, own.Subnet)
	case l.Attrs.MAC == own.Attrs.MAC:
		return fmt.Sprintf("VtepMAC %v is this host's own", l.Attrs.MAC)
	}
	return ""
}

// within reports whether all of p is inside network.
func within(network, p netip.Prefix) bool {
	return p.Bits() >= network.Bits() && network.Contains(p.Addr())
}

// span is a range of IPv4 addresses, both ends included, and which peer's it is.
type span struct {
	first, last uint32
	peer        int
}

func spanOf(p netip.Prefix, peer int) span {
	a := p.Addr().As4()
	first := binary.BigEndian.Uint32(a[:])
	return span{first, first | (1<<(32-p.Bits()) - 1), peer}
}

// dropOverlaps moves peers whose subnet belongs to an earlier one to Rejected. It
// works in the memory of spans, and returns it.
func (s *Selection) dropOverlaps(spans []span) []span {
	spans = slices.Grow(spans[:0], len(s.Peers))
	for i := range s.Peers {
		spans = append(spans, spanOf(s.Peers[i].Subnet, i))
	}
	slices.SortFunc(spans, func(a, b span) int { return cmp.Compare(a.first, b.first) })

	// Ranges that overlap stand side by side now. Without any, which is how it
	// nearly always is, this is one pass.
	lost := make(map[int]int) // peer -> the peer that it lost to
	for i := 0; i < len(spans); {
		last, j := spans[i].last, i+1
		for ; j < len(spans) && spans[j].first <= last; j++ {
			last = max(last, spans[j].last)
		}
		if j > i+1 {
			s.settle(spans[i:j], lost)
		}
		i = j
	}
	if len(lost) == 0 {
		return spans
	}
	kept := s.Peers[:0:0]
	for i, l := range s.Peers {
		if to, ok := lost[i]; ok {
			s.Rejected = append(s.Rejected, rejected(l.Key, fmt.Sprintf("subnet %v overlaps %v, which was leased before it", l.Subnet, s.Peers[to].Subnet)))
			continue
		}
		kept = append(kept, l)
	}
	s.Peers = kept
	return spans
}

// settle lets the earliest of spans stay, then the earliest that does not
// overlap what stays, and so on. Its cost grows with the square of the number
// of spans, which is that of the leases in one tangle.
func (s *Selection) settle(spans []span, lost map[int]int) {
	slices.SortFunc(spans, func(a, b span) int {
		x, y := s.Peers[a.peer], s.Peers[b.peer]
		return cmp.Or(cmp.Compare(x.Created, y.Created), strings.Compare(x.Key, y.Key))
	})
	var stay []span
	for _, v := range spans {
		if i := slices.IndexFunc(stay, func(w span) bool { return v.first <= w.last && w.first <= v.last }); i >= 0 {
			lost[v.peer] = stay[i].peer
			continue
		}
		stay = append(stay, v)
	}
}
