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
	routes bart.Fast[*peer] // by overlay subnet, longest prefix first
	vteps  map[netip.Addr]bool
	peers  []*peer // in the order they were given

	stations stations // with Config.PeerMACs
	// told is false before the first SetPeers: that nobody is a peer is no
	// fault of a sender's then.
	told bool
}

// peer is one peer of a table. The traffic outlives the table.
type peer struct {
	Peer
	outer   *vxlan.Outer // for the Uplink, as gate
	gate    Gate         // nil: super-frames are cut
	traffic *traffic
}

// traffic counts a peer's delivered frames; the loops add once per run of
// frames of one peer.
type traffic struct {
	outFrames, outBytes atomic.Uint64
	inFrames, inBytes   atomic.Uint64
}

// newTable builds the table for peers; old, which may be nil, gives the counts
// of the subnets that it has too.
func newTable(peers []Peer, old *table) *table {
	t := &table{told: true, vteps: make(map[netip.Addr]bool, len(peers)), peers: make([]*peer, 0, len(peers))}
	for _, p := range peers {
		e := &peer{Peer: p, traffic: old.trafficOf(p.Subnet)}
		t.routes.Insert(p.Subnet, e)
		t.vteps[p.VTEP] = true
		t.peers = append(t.peers, e)
	}
	return t
}

// addUplink gives every peer its gate and its outer headers. One that cannot
// have them does without: its super-frames are cut.
func (t *table) addUplink(u Uplink, header vxlan.Header, buffers *buffer.Pool) {
	buf := buffers.Get()
	defer buffers.Put(buf)
	vteps := make([]netip.Addr, len(t.peers))
	for i, p := range t.peers {
		vteps[i] = p.VTEP
	}
	for i, g := range u.Gates(vteps) {
		p := t.peers[i]
		outer, err := vxlan.NewOuter(u.Endpoint(), p.VTEP, header, buf)
		if err != nil {
			continue
		}
		p.outer, p.gate = outer, g
	}
}

func (t *table) trafficOf(subnet netip.Prefix) *traffic {
	if t != nil {
		if p, ok := t.routes.Get(subnet); ok {
			return p.traffic
		}
	}
	return &traffic{}
}

// lookup returns the peer that leases the subnet around a, or nil.
func (t *table) lookup(a netip.Addr) *peer {
	p, _ := t.routes.Lookup(a)
	return p
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
