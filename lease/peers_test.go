// SPDX-License-Identifier: Apache-2.0

package lease

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"vxtap/encap/ether"
)

// host returns a good lease of 10.5.n.0/24.
func host(n byte, created int64) Lease {
	p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 5, n, 0}), 24)
	return Lease{
		Key:     subnetsDir + SubnetKey{IPv4: p}.String(),
		Subnet:  p,
		Attrs:   Attrs{PublicIP: netip.AddrFrom4([4]byte{192, 168, 0, n}), BackendType: "vxlan", VNI: 1, MAC: ether.MAC{2, 0, 0, 0, 0, n}},
		Created: created, Revision: created, Grant: 1,
	}
}

func with(l Lease, change func(*Lease)) Lease {
	change(&l)
	l.Key = subnetsDir + SubnetKey{IPv4: l.Subnet}.String()
	return l
}

func TestSelect(t *testing.T) {
	own := host(1, 10)
	good := host(9, 12)
	tests := []struct {
		name   string
		leases []Lease
		peers  []string // subnets
		why    []string // parts of reasons, in key order
		other  int
	}{
		{"our own is no peer", []Lease{own, good}, []string{"10.5.9.0/24"}, nil, 0},
		{"another backend is counted", []Lease{good, with(host(3, 1), func(l *Lease) { l.Attrs.BackendType = "host-gw" })}, []string{"10.5.9.0/24"}, nil, 1},
		{"outside the network", []Lease{good, with(host(3, 1), func(l *Lease) { l.Subnet = pfx("10.6.3.0/24") })},
			[]string{"10.5.9.0/24"}, []string{"outside the network"}, 0},
		{"larger than the network", []Lease{good, with(host(3, 1), func(l *Lease) { l.Subnet = pfx("10.0.0.0/8") })},
			[]string{"10.5.9.0/24"}, []string{"outside the network"}, 0},
		{"the whole network", []Lease{good, with(host(3, 1), func(l *Lease) { l.Subnet = pfx("10.5.0.0/16") })},
			[]string{"10.5.9.0/24"}, []string{"overlaps this host's"}, 0},
		{"part of our own subnet", []Lease{good, with(host(3, 1), func(l *Lease) { l.Subnet = pfx("10.5.1.128/25") })},
			[]string{"10.5.9.0/24"}, []string{"overlaps this host's"}, 0},
		{"our own VTEP under another key", []Lease{good, with(host(3, 1), func(l *Lease) { l.Attrs.PublicIP = own.Attrs.PublicIP })},
			[]string{"10.5.9.0/24"}, []string{"is this host's own"}, 0},
		{"our own MAC under another key", []Lease{good, with(host(3, 1), func(l *Lease) { l.Attrs.MAC = own.Attrs.MAC })},
			[]string{"10.5.9.0/24"}, []string{"is this host's own"}, 0},
		{"VTEP inside the overlay", []Lease{good, with(host(3, 1), func(l *Lease) { l.Attrs.PublicIP = ip("10.5.9.9") })},
			[]string{"10.5.9.0/24"}, []string{"inside the overlay"}, 0},
		{"another VNI is not compared, as in flannel", []Lease{with(good, func(l *Lease) { l.Attrs.VNI = 77 })}, []string{"10.5.9.0/24"}, nil, 0},
		{"one VTEP with two subnets", []Lease{good, with(host(3, 1), func(l *Lease) { l.Attrs.PublicIP = good.Attrs.PublicIP })},
			[]string{"10.5.3.0/24", "10.5.9.0/24"}, nil, 0},
		{"of two that overlap the older stays", []Lease{good, with(host(8, 50), func(l *Lease) { l.Subnet = pfx("10.5.8.0/23") })},
			[]string{"10.5.9.0/24"}, []string{"overlaps 10.5.9.0/24"}, 0},
		{"whichever is the larger", []Lease{good, with(host(8, 2), func(l *Lease) { l.Subnet = pfx("10.5.8.0/23") })},
			[]string{"10.5.8.0/23"}, []string{"overlaps 10.5.8.0/23"}, 0},
		{"who lost to nobody that stays, stays", []Lease{
			with(host(8, 1), func(l *Lease) { l.Subnet = pfx("10.5.8.0/25") }),
			with(host(8, 2), func(l *Lease) { l.Subnet = pfx("10.5.8.0/23") }),
			host(9, 3),
		}, []string{"10.5.8.0/25", "10.5.9.0/24"}, []string{"overlaps 10.5.8.0/25"}, 0},
		{"at equal age the lower key stays", []Lease{with(host(8, 5), func(l *Lease) { l.Subnet = pfx("10.5.8.0/24") }), with(host(7, 5), func(l *Lease) { l.Subnet = pfx("10.5.8.0/23") })},
			[]string{"10.5.8.0/23"}, []string{"overlaps 10.5.8.0/23"}, 0},
	}
	c := mustConfig(t, usual)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			byKey := func(a, b Lease) int { return strings.Compare(a.Key, b.Key) }
			slices.SortFunc(tt.leases, byKey)
			bad := Rejected{Key: "subnets/zzz", Reason: "bad key"}
			got := Snapshot{Leases: tt.leases, Rejected: []Rejected{bad}}.Select(c, own)
			var peers []string
			for _, p := range got.Peers {
				peers = append(peers, p.Subnet.String())
			}
			slices.Sort(peers)
			if d := diff(peers, tt.peers); d != "" {
				t.Errorf("peers (-want +got)\n%s", d)
			}
			if n := len(got.Rejected); n != len(tt.why)+1 || got.Rejected[n-1] != bad {
				t.Fatalf("got rejected %v, want %d and the bad key", got.Rejected, len(tt.why))
			}
			for i, why := range tt.why {
				if !strings.Contains(got.Rejected[i].Reason, why) {
					t.Errorf("got reason %q, want it to say %q", got.Rejected[i].Reason, why)
				}
			}
			if got.OtherBackend != tt.other {
				t.Errorf("got %d leases of other backends, want %d", got.OtherBackend, tt.other)
			}
		})
	}
}

// F8: a host that has IPv4 only takes the IPv4 half of a dual-stack lease, which
// makes flanneld panic.
func TestF8DualStackPeer(t *testing.T) {
	pairs := []Pair{{Key: "subnets/10.5.9.0-24&fd00:12:13::-64", Value: []byte(goldenDual), Created: 3, Revision: 5, Grant: 9}}
	got := snapshot(readEntries(pairs), 7).Select(mustConfig(t, usual), host(1, 1))
	want := Lease{
		Key: pairs[0].Key, Subnet: pfx("10.5.9.0/24"), IPv6Subnet: pfx("fd00:12:13::/64"), Created: 3, Revision: 5, Grant: 9,
		Attrs: Attrs{PublicIP: ip("192.168.64.3"), PublicIPv6: ip("fd00::1"), BackendType: "vxlan", VNI: 1, MAC: mac(t, "c6:d2:32:6f:8f:44"), IPv6VNI: 1, IPv6MAC: mac(t, "c6:d2:32:6f:8f:45")},
	}
	if len(got.Peers) != 1 || len(got.Rejected) != 0 {
		t.Fatalf("got %+v", got)
	}
	if d := diff(got.Peers[0], want); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
}

// Peers of one Select never overlap each other, and nothing that stays out
// could have stayed in.
func TestSelectTangles(t *testing.T) {
	c := mustConfig(t, usual)
	r := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		var s Snapshot
		for i := range 60 {
			p, _ := netip.AddrFrom4([4]byte{10, 5, byte(r.IntN(8)), byte(r.IntN(256))}).Prefix(20 + r.IntN(10))
			l := host(2, int64(r.IntN(100)))
			l.Subnet, l.Key = p, fmt.Sprintf("subnets/%d", i)
			s.Leases = append(s.Leases, l)
		}
		got := s.Select(c, Lease{})
		if len(got.Peers)+len(got.Rejected) != len(s.Leases) {
			t.Fatalf("got %d peers and %d rejected of %d", len(got.Peers), len(got.Rejected), len(s.Leases))
		}
		in := make(map[string]bool)
		for i, a := range got.Peers {
			in[a.Key] = true
			for _, b := range got.Peers[:i] {
				if a.Subnet.Overlaps(b.Subnet) {
					t.Fatalf("peers %v and %v overlap", a.Subnet, b.Subnet)
				}
			}
		}
		for _, l := range s.Leases {
			if !in[l.Key] && !slices.ContainsFunc(got.Peers, func(p Lease) bool { return p.Created <= l.Created && p.Subnet.Overlaps(l.Subnet) }) {
				t.Fatalf("%v of revision %d was left out for nothing", l.Subnet, l.Created)
			}
		}
	}
}

func TestSelectKeepsItsHandsOffTheSnapshot(t *testing.T) {
	s := Snapshot{Leases: []Lease{host(3, 1), host(4, 2)}, Rejected: []Rejected{{"subnets/z", "b"}, {"subnets/a", "a"}}}
	got := s.Select(mustConfig(t, usual), host(1, 1))
	got.Peers[0].Key, got.Rejected[0].Key = "x", "x"
	if s.Leases[0].Key != host(3, 1).Key || s.Rejected[0].Key != "subnets/z" {
		t.Errorf("got %+v changed by Select's caller", s)
	}
}

func BenchmarkSelect(b *testing.B) {
	c := mustConfig(b, `{"Network": "10.0.0.0/8", "Backend": {"Type": "vxlan"}}`)
	var s Snapshot
	for i := range 10000 {
		l := host(2, int64(i))
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0}), 24)
		l.Subnet, l.Key = p, subnetsDir+SubnetKey{IPv4: p}.String()
		l.Attrs.PublicIP = netip.AddrFrom4([4]byte{172, 16, byte(i >> 8), byte(i)})
		s.Leases = append(s.Leases, l)
	}
	b.ReportAllocs()
	for b.Loop() {
		if got := s.Select(c, Lease{}); len(got.Peers) != 10000 {
			b.Fatalf("got %d peers", len(got.Peers))
		}
	}
}
