// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"net/netip"
	"slices"

	"github.com/gaissmai/bart"
)

// The index of a table is made from the one before where little has changed:
// with ten thousand peers building it takes milliseconds, and every peer that
// comes, goes or moves would cost them.

// nearby finds peers in a table in about the order in which that has them.
type nearby struct {
	old  *table
	next int // where the next one is, if none came or went
}

// find returns the peer that is the same in every respect, or nil.
func (n *nearby) find(p Peer) *peer {
	if n.old == nil || n.old.routes == nil {
		return nil
	}
	for i := n.next; i < len(n.old.peers) && i < n.next+3; i++ {
		if e := n.old.peers[i]; e.Peer == p {
			n.next = i + 1
			return e
		}
	}
	if e, ok := n.old.routes.Get(p.Subnet); ok && e.Peer == p {
		return e
	}
	return nil
}

// mostChanges is how many peers may differ for an index to be made of another.
// Each costs a copy of a few nodes, of some kilobytes each; above about that
// number a new one is cheaper.
const mostChanges = 64

// index fills in routes and vteps: from those of old, which may be nil, where
// few peers differ.
func (t *table) index(old *table) {
	if t.indexFrom(old) {
		return
	}
	t.routes = new(bart.Fast[*peer])
	t.vteps = new(bart.Lite)
	for _, p := range t.peers {
		t.routes.Insert(p.Subnet, p)
		t.vteps.Insert(single(p.VTEP))
	}
}

// indexFrom reports whether it could. Where two peers of a table have the same
// subnet it cannot: what is left when one goes, the index does not know.
func (t *table) indexFrom(old *table) bool {
	if old == nil || old.routes == nil || old.routes.Size() != len(old.peers) {
		return false
	}
	gone, come, ok := peerChanges(old.peers, t.peers)
	if !ok {
		return false
	}
	routes := old.routes
	for _, p := range gone {
		routes = routes.DeletePersist(p.Subnet)
	}
	for _, p := range come {
		routes = routes.InsertPersist(p.Subnet, p)
	}
	if routes.Size() != len(t.peers) {
		return false
	}
	t.routes = routes
	t.vteps = vtepsFrom(old.vteps, t.peers, gone, come)
	return true
}

// peerChanges returns which peers of old are not in now, and the other way round;
// false if that are more than mostChanges. One that is in both, and elsewhere,
// may be in both answers.
func peerChanges(old, now []*peer) (gone, come []*peer, ok bool) {
	i, j := 0, 0
	for i < len(old) || j < len(now) {
		switch {
		case len(gone)+len(come) > mostChanges:
			return nil, nil, false
		case i < len(old) && j < len(now) && old[i] == now[j]:
			i, j = i+1, j+1
		case j == len(now) || i+1 < len(old) && j < len(now) && old[i+1] == now[j]:
			gone = append(gone, old[i])
			i++
		case i == len(old) || j+1 < len(now) && old[i] == now[j+1]:
			come = append(come, now[j])
			j++
		default:
			gone, come = append(gone, old[i]), append(come, now[j])
			i, j = i+1, j+1
		}
	}
	return gone, come, true
}

// vtepsFrom returns the addresses of peers, made of those before.
func vtepsFrom(old *bart.Lite, peers, gone, come []*peer) *bart.Lite {
	vteps := old
	for i, p := range gone {
		if i < len(come) && come[i].VTEP == p.VTEP {
			continue // it is another peer of that address, or the same
		}
		// Two peers may share an address.
		if !slices.ContainsFunc(peers, func(q *peer) bool { return q.VTEP == p.VTEP }) {
			vteps = vteps.DeletePersist(single(p.VTEP))
		}
	}
	for _, p := range come {
		if !vteps.Contains(p.VTEP) {
			vteps = vteps.InsertPersist(single(p.VTEP))
		}
	}
	return vteps
}

// single is the prefix that has a and nothing else.
func single(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }
