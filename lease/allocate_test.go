// SPDX-License-Identifier: Apache-2.0

package lease

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"vxtap/test/stall"
)

func heldEntries(subnets ...netip.Prefix) []*entry {
	var out []*entry
	for _, p := range subnets {
		out = append(out, &entry{held: p})
	}
	return out
}

// free returns the first subnets of n that none of entries holds.
func free(n plan, entries []*entry, limit int) []netip.Prefix {
	return n.free(n.taken(entries, nil), limit)
}

func TestFree(t *testing.T) {
	tests := []struct {
		name   string
		config string
		held   []string
		limit  int
		want   []string
	}{
		{"nothing leased: the first subnet is left out", usual, nil, 3, []string{"10.5.1.0/24", "10.5.2.0/24", "10.5.3.0/24"}},
		{"leased ones are passed over", usual, []string{"10.5.2.0/24", "10.5.1.0/24"}, 2, []string{"10.5.3.0/24", "10.5.4.0/24"}},
		{"a smaller one holds the whole subnet", usual, []string{"10.5.1.64/26"}, 1, []string{"10.5.2.0/24"}},
		{"a larger one holds several", usual, []string{"10.5.0.0/22", "10.5.2.0/24"}, 1, []string{"10.5.4.0/24"}},
		{"the two halves", usual, []string{"10.5.0.0/17", "10.5.128.0/17"}, 1, nil},
		{"the whole network is nobody's", usual, []string{"10.5.0.0/16", "10.5.1.0/24"}, 1, []string{"10.5.2.0/24"}},
		{"more than the network is nobody's", usual, []string{"10.0.0.0/8"}, 1, []string{"10.5.1.0/24"}},
		{"nobody's key is as wide as all addresses", usual, []string{"0.0.0.0/0"}, 1, []string{"10.5.1.0/24"}},
		{"what is elsewhere", usual, []string{"10.6.0.0/17"}, 1, []string{"10.5.1.0/24"}},
		{"only what is between the bounds", `{"Network": "10.5.0.0/16", "SubnetMin": "10.5.7.0", "SubnetMax": "10.5.8.0", "Backend": {"Type": "vxlan"}}`,
			[]string{"10.5.9.0/24"}, 9, []string{"10.5.7.0/24", "10.5.8.0/24"}},
		{"at the end of the address space", `{"Network": "223.255.255.0/24", "SubnetLen": 26, "Backend": {"Type": "vxlan"}}`,
			[]string{"223.255.255.128/26"}, 9, []string{"223.255.255.64/26", "223.255.255.192/26"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var held, want []netip.Prefix
			for _, s := range tt.held {
				held = append(held, pfx(s))
			}
			for _, s := range tt.want {
				want = append(want, pfx(s))
			}
			got := free(mustConfig(t, tt.config).ipv4(), heldEntries(held...), tt.limit)
			if !slices.Equal(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
}

// The plain way of finding free subnets, which looks at each pair, agrees.
func TestFreeAgainstThePlainWay(t *testing.T) {
	c := mustConfig(t, `{"Network": "10.5.0.0/20", "SubnetLen": 26, "Backend": {"Type": "vxlan"}}`)
	r := rand.New(rand.NewPCG(3, 4))
	for range 300 {
		var held []netip.Prefix
		for range r.IntN(40) {
			p, _ := netip.AddrFrom4([4]byte{10, 5, byte(r.IntN(18)), byte(r.IntN(256))}).Prefix(21 + r.IntN(11))
			held = append(held, p)
		}
		var want []netip.Prefix
		for a := c.SubnetMin; !c.SubnetMax.Less(a); {
			p := netip.PrefixFrom(a, c.SubnetLen)
			if !slices.ContainsFunc(held, p.Overlaps) {
				want = append(want, p)
			}
			for range 64 {
				a = a.Next()
			}
		}
		ranges := c.ipv4().taken(heldEntries(held...), nil)
		if got := c.ipv4().free(ranges, 1000); !slices.Equal(got, want) {
			t.Fatalf("held %v: got %v, want %v", held, got, want)
		}
		for _, p := range want {
			if ranges.overlap(p) {
				t.Fatalf("held %v: %v overlaps", held, p)
			}
		}
		for _, p := range held {
			if p.Overlaps(c.Network) && !ranges.overlap(p) {
				t.Fatalf("held %v: %v is said to be free", held, p)
			}
		}
	}
}

// Ten thousand leases, some of them broken, must not make a start slow.
func TestFreeIsFast(t *testing.T) {
	c := mustConfig(t, `{"Network": "10.0.0.0/8", "SubnetLen": 30, "Backend": {"Type": "vxlan"}}`)
	var pairs []Pair
	for i := range 10000 {
		pairs = append(pairs, Pair{Key: fmt.Sprintf("subnets/10.%d.%d.0-24", i>>8, i&255), Value: []byte(golden)})
	}
	clock := stall.Start()
	got := free(c.ipv4(), readEntries(pairs), choices)
	if took := clock.Took(); took > 2*time.Second {
		t.Errorf("took %v", took)
	}
	if len(got) != choices || got[0] != pfx("10.39.16.0/30") {
		t.Errorf("got %d subnets from %v on", len(got), got[0])
	}
}

func TestFits(t *testing.T) {
	c := mustConfig(t, `{"Network": "10.5.0.0/16", "SubnetMin": "10.5.2.0", "SubnetMax": "10.5.9.0", "Backend": {"Type": "vxlan"}}`)
	for _, tt := range []struct {
		name string
		key  SubnetKey
		want bool
	}{
		{"inside", SubnetKey{IPv4: pfx("10.5.2.0/24")}, true},
		{"last", SubnetKey{IPv4: pfx("10.5.9.0/24")}, true},
		{"below the lower bound", SubnetKey{IPv4: pfx("10.5.1.0/24")}, false},
		{"above the upper bound", SubnetKey{IPv4: pfx("10.5.10.0/24")}, false},
		{"of another length", SubnetKey{IPv4: pfx("10.5.2.0/25")}, false},
		{"with host bits", SubnetKey{IPv4: pfx("10.5.2.7/24")}, false},
		{"nothing", SubnetKey{}, false},
		{"with an IPv6 half in a network without", SubnetKey{pfx("10.5.2.0/24"), pfx("fd00::/64")}, false},
	} {
		if got := c.fits(tt.key); got != tt.want {
			t.Errorf("%s: got %v, want %v", tt.name, got, tt.want)
		}
	}
}
