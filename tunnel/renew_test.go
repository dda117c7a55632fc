// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"vxtap/encap/buffer"
	"vxtap/encap/ether"
)

// A table that was made of others, again and again, is the one that is made of
// nothing, whatever peers do.
func TestTableMadeOfTheOneBefore(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	peers := leases(r, 400)
	other := leases(r, 800)[400:]
	table := newTable(peers, nil)
	for step := range 600 {
		peers = slices.Clone(peers)
		for range 1 + r.IntN(3) {
			change(r, step, &peers, other)
		}
		if step%97 == 0 {
			r.Shuffle(len(peers), func(i, j int) { peers[i], peers[j] = peers[j], peers[i] })
		}
		if step%53 == 0 { // so that the index can be made of the one before again
			peers = slices.CompactFunc(sortedBySubnet(peers), func(a, b Peer) bool { return a.Subnet == b.Subnet })
		}
		before := table
		was := peersIn(before)
		table = newTable(peers, before)
		sameTable(t, step, table, newTable(peers, nil))
		sameTable(t, step, before, newTable(was, nil)) // the loops go on with it for a while
	}
}

// change lets one peer come, go, move or change.
func change(r *rand.Rand, step int, all *[]Peer, other []Peer) {
	peers := *all
	i := r.IntN(len(peers))
	switch r.IntN(8) {
	case 0:
		peers = slices.Delete(peers, i, i+1)
	case 1:
		peers = slices.Insert(peers, i, other[r.IntN(len(other))]) // maybe one that is there
	case 2:
		peers[i].VTEP = other[r.IntN(len(other))].VTEP
	case 3:
		peers[i].MAC = ether.MAC{6, 0, 0, 0, byte(step >> 8), byte(step)}
	case 4:
		peers[i].VTEP = peers[(i+1)%len(peers)].VTEP // two hosts of one address
	case 5:
		j := (i + 1) % len(peers)
		peers[i], peers[j] = peers[j], peers[i]
	case 6:
		peers[i].Subnet = netip.PrefixFrom(peers[i].Subnet.Addr(), 16+r.IntN(8)).Masked() // around others
	}
	*all = peers
}

func sortedBySubnet(peers []Peer) []Peer {
	slices.SortFunc(peers, func(a, b Peer) int { return a.Subnet.Compare(b.Subnet) })
	return peers
}

func peersIn(t *table) []Peer {
	all := make([]Peer, len(t.peers))
	for i, p := range t.peers {
		all[i] = p.Peer
	}
	return all
}

func sameTable(t *testing.T, step int, got, want *table) {
	t.Helper()
	if !slices.Equal(peersIn(got), peersIn(want)) || !got.vteps.Equal(want.vteps) || got.routes.Size() != want.routes.Size() {
		t.Fatalf("step %d: got %d peers, %d VTEPs, %d routes, want %d, %d, %d", step,
			len(got.peers), got.vteps.Size(), got.routes.Size(), len(want.peers), want.vteps.Size(), want.routes.Size())
	}
	for subnet, p := range want.routes.All() {
		if q, ok := got.routes.Get(subnet); !ok || q.Peer != p.Peer {
			t.Fatalf("step %d: %v: got %+v, want %+v", step, subnet, q, p.Peer)
		}
	}
}

// What did not change is not made anew: neither a peer nor, for many peers, the
// index.
func TestOnePeerOfManyMoves(t *testing.T) {
	peers := leases(rand.New(rand.NewPCG(5, 6)), 1000)
	old := newTable(peers, nil)
	moved := slices.Clone(peers)
	moved[500].VTEP = netip.MustParseAddr("192.0.2.1")
	table := newTable(moved, old)
	for i := range peers {
		if (table.peers[i] == old.peers[i]) != (i != 500) {
			t.Fatalf("peer %d: the same %t", i, table.peers[i] == old.peers[i])
		}
	}
	if old.peers[500].VTEP == moved[500].VTEP || table.peers[500].traffic != old.peers[500].traffic {
		t.Error("the old table was changed, or the counts did not stay")
	}
	allocs := testing.AllocsPerRun(10, func() { newTable(moved, old) })
	if whole := testing.AllocsPerRun(10, func() { newTable(moved, nil) }); allocs > whole/10 {
		t.Errorf("got %v allocations for one peer, of %v for all", allocs, whole)
	}
}

// A peer keeps its gate over a change of another, and gets new outer headers
// when the host has moved.
func TestUplinkOfTheTableBefore(t *testing.T) {
	u := &fakeUplink{}
	s := &Switch{Config: Config{Uplink: u}, buffers: buffer.NewPool(headroom, batchBytes)}
	peers := leases(rand.New(rand.NewPCG(7, 8)), 10)
	s.SetPeers(peers)
	one := s.table.Load()
	peers[3].MAC = ether.MAC{6, 1}
	s.SetPeers(peers)
	two := s.table.Load()
	for i := range peers {
		p, ok := two.routes.Get(peers[i].Subnet)
		if !ok || p != two.peers[i] || p.gate == nil || p.outer == nil || (p == one.peers[i]) != (i != 3) {
			t.Errorf("peer %d: got %+v, which is the same %t", i, p, p == one.peers[i])
		}
	}
}
