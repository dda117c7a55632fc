// SPDX-License-Identifier: Apache-2.0

package lease

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"vxtap/encap/ether"
	"vxtap/test/stall"
)

// tangled returns a lease of p, created as the n-th.
func tangled(p netip.Prefix, n int) Lease {
	return Lease{Key: fmt.Sprintf("subnets/%08d", n), Subnet: p, Created: int64(n), Attrs: Attrs{
		PublicIP:    netip.AddrFrom4([4]byte{192, byte(n >> 16), byte(n >> 8), byte(n)}),
		BackendType: backendVXLAN,
		MAC:         ether.MAC{2, 0, 0, byte(n >> 16), byte(n >> 8), byte(n)},
	}}
}

// One key that is as wide as half the network must not make every change of any
// lease cost seconds: with each lease compared to each other it was a minute here.
func TestSelectAmongManyInsideOneWideSubnet(t *testing.T) {
	const n = 60_000
	s := Snapshot{}
	for i := range n {
		s.Leases = append(s.Leases, tangled(netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 5, byte(i >> 8), byte(i)}), 32), i+1))
	}
	s.Leases = append(s.Leases, tangled(netip.MustParsePrefix("10.5.0.0/16"), n+1))
	clock := stall.Start()
	sel := s.Select(Config{Network: netip.MustParsePrefix("10.0.0.0/8")}, Lease{})
	if took := clock.Took(); took > 5*time.Second {
		t.Errorf("got a selection of %d leases in %v, want it within 5s", n, took)
	}
	if len(sel.Peers) != n || len(sel.Rejected) != 1 {
		t.Errorf("got %d peers and %d rejected, want %d and 1", len(sel.Peers), len(sel.Rejected), n)
	}
}

// The rule in its plainest words, at whatever cost.
func TestSettleIsFirstComeFirstServed(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		var peers []Lease
		for i := range 1 + random.IntN(12) {
			bits := 24 + random.IntN(9)
			p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 5, 0, byte(random.IntN(16) << 4)}), bits).Masked()
			peers = append(peers, tangled(p, i+1))
			peers[i].Created = int64(random.IntN(6)) // some are as old as others
		}
		random.Shuffle(len(peers), func(i, j int) { peers[i], peers[j] = peers[j], peers[i] })

		want := make(map[string]string)
		byAge := slices.SortedFunc(slices.Values(peers), func(a, b Lease) int {
			return cmp.Or(cmp.Compare(a.Created, b.Created), strings.Compare(a.Key, b.Key))
		})
		var stay []Lease
		for _, l := range byAge {
			if i := slices.IndexFunc(stay, func(o Lease) bool { return o.Subnet.Overlaps(l.Subnet) }); i >= 0 {
				want[l.Key] = fmt.Sprintf("subnet %v overlaps %v, which was leased before it", l.Subnet, stay[i].Subnet)
				continue
			}
			stay = append(stay, l)
		}
		got := make(map[string]string)
		for _, r := range (Snapshot{Leases: peers}).Select(Config{Network: netip.MustParsePrefix("10.0.0.0/8")}, Lease{}).Rejected {
			got[r.Key] = r.Reason
		}
		if d := gocmp.Diff(want, got); d != "" {
			t.Fatalf("leases %v: -want +got\n%s", peers, d)
		}
	}
}
