// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"net/netip"
	"sync/atomic"

	"github.com/gaissmai/bart"

	"vxtap/encap/buffer"
	"vxtap/encap/vxlan"
)

// table is the forwarding table of a segment. It is never changed: a change of
// peers publishes a new one, and the loops take it up with their next batch.
type table struct {
	routes *bart.Fast[*peer] // by overlay subnet, longest prefix first
	vteps  *bart.Lite        // addresses of peers
	peers  []*peer           // in the order they were given

	stations stations // with Config.PeerMACs
	// told is false before the first SetPeers: that nobody is a peer is no
	// fault of a sender's then.
	told bool
}

// peer is one peer of a table. The traffic outlives the table.
type peer struct {
	Peer
	outer   *vxlan.Outer   // for the Uplink, as gate
	gate    Gate           // nil: super-frames are cut
	from    vxlan.Endpoint // that outer is made of
	traffic *traffic
}

// traffic counts a peer's delivered frames; the loops add once per run of
// frames of one peer.
type traffic struct {
	outFrames, outBytes atomic.Uint64
	inFrames, inBytes   atomic.Uint64
}

// newTable builds the table for peers.
func newTable(peers []Peer, old *table) *table {
	t := withoutIndex(peers, old)
	t.index(old)
	return t
}

// withoutIndex is newTable but for the index. What old, which may be nil, has too
// is taken over, counts included: of ten thousand peers one changes at a time.
func withoutIndex(peers []Peer, old *table) *table {
	t := &table{told: true, peers: make([]*peer, len(peers))}
	near := nearby{old: old}
	for i, p := range peers {
		if t.peers[i] = near.find(p); t.peers[i] == nil {
			t.peers[i] = &peer{Peer: p, traffic: old.trafficOf(p.Subnet)}
		}
	}
	return t
}

// addUplink gives every peer its gate and its outer headers. One that cannot
// have them does without: its super-frames are cut. A peer that another table
// may have is replaced, not changed. There is no index yet.
func (t *table) addUplink(u Uplink, header vxlan.Header, buffers *buffer.Pool) {
	buf := buffers.Get()
	defer buffers.Put(buf)
	vteps := make([]netip.Addr, len(t.peers))
	for i, p := range t.peers {
		vteps[i] = p.VTEP
	}
	from := u.Endpoint()
	for i, g := range u.Gates(vteps) {
		p := t.peers[i]
		if p.gate == g && p.from == from {
			continue
		}
		with := &peer{Peer: p.Peer, traffic: p.traffic}
		if outer, err := vxlan.NewOuter(from, p.VTEP, header, buf); err == nil {
			with.outer, with.gate, with.from = outer, g, from
		}
		t.peers[i] = with
	}
}

func (t *table) trafficOf(subnet netip.Prefix) *traffic {
	if t != nil && t.routes != nil {
		if p, ok := t.routes.Get(subnet); ok {
			return p.traffic
		}
	}
	return &traffic{}
}

// lookup returns the peer that leases the subnet around a, or nil.
func (t *table) lookup(a netip.Addr) *peer {
	if t.routes == nil { // of nobody
		return nil
	}
	p, _ := t.routes.Lookup(a)
	return p
}

// isVTEP reports whether a is the address of a peer.
func (t *table) isVTEP(a netip.Addr) bool {
	return t.vteps != nil && a.Zone() == "" && t.vteps.Contains(a)
}

// stats lists the peers with their traffic.
func (t *table) stats() []PeerStats {
	s := make([]PeerStats, len(t.peers))
	for i, p := range t.peers {
		s[i] = PeerStats{Peer: p.Peer, PeerTraffic: PeerTraffic{
			OutFrames: p.traffic.outFrames.Load(), OutBytes: p.traffic.outBytes.Load(),
			InFrames: p.traffic.inFrames.Load(), InBytes: p.traffic.inBytes.Load(),
		}}
	}
	return s
}
