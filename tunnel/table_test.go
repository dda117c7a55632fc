// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"vxtap/encap/ether"
)

// leases returns n peers with a /24 each, scattered over 10.0.0.0/8, which
// spreads them over as many nodes of the table as can be.
func leases(r *rand.Rand, n int) []Peer {
	peers := make([]Peer, n)
	for i, at := range r.Perm(1 << 16)[:n] {
		peers[i] = Peer{
			Subnet: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(at >> 8), byte(at), 0}), 24),
			VTEP:   netip.AddrFrom4([4]byte{192, 168, byte(i >> 8), byte(i)}),
			MAC:    ether.MAC{2, 0, 0, 0, byte(i >> 8), byte(i)},
		}
	}
	return peers
}

// within returns a random address of p.
func within(r *rand.Rand, p netip.Prefix) netip.Addr {
	a := p.Addr().As4()
	for bit := p.Bits(); bit < 32; bit++ {
		a[bit/8] |= byte(r.UintN(2)) << (7 - bit%8)
	}
	return netip.AddrFrom4(a)
}

// TestLookup compares the table with the plain way, prefixes that lie in each
// other included.
func TestLookup(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	peers := leases(r, 300)
	for i := range 300 { // and some around them or inside
		bits := 8 + r.IntN(25)
		p, err := within(r, peers[i].Subnet).Prefix(bits)
		if err != nil {
			t.Fatal(err)
		}
		peers = append(peers, Peer{Subnet: p, VTEP: peers[i].VTEP, MAC: ether.MAC{4, 0, 0, 0, byte(i >> 8), byte(i)}})
	}
	table := newTable(peers, nil)
	found := 0
	for range 20000 {
		a := netip.AddrFrom4([4]byte{10, byte(r.UintN(256)), byte(r.UintN(256)), byte(r.UintN(256))})
		if r.IntN(2) == 0 {
			a = within(r, peers[r.IntN(len(peers))].Subnet)
		}
		var want Peer
		for _, p := range peers { // of two with one subnet the later wins
			if p.Subnet.Contains(a) && (!want.Subnet.IsValid() || p.Subnet.Bits() >= want.Subnet.Bits()) {
				want = p
			}
		}
		got := table.lookup(a)
		if (got != nil) != want.Subnet.IsValid() || got != nil && got.Peer != want {
			t.Fatalf("%v: got %+v, want %+v", a, got, want)
		}
		if got != nil {
			found++
		}
	}
	if found < 5000 {
		t.Errorf("only %d addresses belonged to anybody: the test is wrong", found)
	}
}

func TestLookupFindsNobody(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	table := newTable(leases(r, 10), nil)
	for _, a := range []netip.Addr{
		{},
		netip.MustParseAddr("192.168.0.1"),
		netip.MustParseAddr("fd00::1"),
		netip.AddrFrom16(within(r, table.peers[0].Subnet).As16()), // an IPv4 address in IPv6
	} {
		if p := table.lookup(a); p != nil {
			t.Errorf("%v belongs to %v", a, p.Subnet)
		}
	}
	if p := newTable(nil, nil).lookup(netip.MustParseAddr("10.0.0.1")); p != nil {
		t.Errorf("a table without peers has %v", p.Subnet)
	}
}

func TestLookupDoesNotAllocate(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	table := newTable(leases(r, 1000), nil)
	known, unknown := table.peers[500].Subnet.Addr(), netip.MustParseAddr("172.16.0.1")
	if n := testing.AllocsPerRun(100, func() { table.lookup(known); table.lookup(unknown) }); n != 0 {
		t.Errorf("got %v allocations, want 0", n)
	}
}

// BenchmarkLookup looks up random addresses: with one hot address everything
// would be in the first-level cache. Reading the peer's MAC, which the switch
// does next, belongs to it.
func BenchmarkLookup(b *testing.B) {
	for _, n := range []int{10, 1000, 10000} {
		b.Run(fmt.Sprint(n, " subnets"), func(b *testing.B) {
			r := rand.New(rand.NewPCG(1, 2))
			table := newTable(leases(r, n), nil)
			addrs := make([][4]byte, 1<<14) // as they stand in frames
			for i := range addrs {
				addrs[i] = within(r, table.peers[r.IntN(n)].Subnet).As4()
			}
			b.ReportAllocs()
			i, sum := 0, 0
			for b.Loop() {
				sum += int(table.lookup(netip.AddrFrom4(addrs[i%len(addrs)])).MAC[5])
				i++
			}
			if sum == 0 {
				b.Error("no peer was found")
			}
		})
	}
}
