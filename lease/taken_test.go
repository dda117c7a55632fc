// SPDX-License-Identifier: Apache-2.0

package lease

import (
	"net/netip"
	"testing"

	"vxtap/encap/ether"
)

// leaseOf is a lease of the host 192.0.2.n.
func leaseOf(n byte, key, subnet string) Lease {
	return Lease{
		Key: key, Subnet: netip.MustParsePrefix(subnet),
		Attrs: Attrs{BackendType: backendVXLAN, PublicIP: netip.AddrFrom4([4]byte{192, 0, 2, n}), MAC: ether.MAC{2, 0, 0, 0, 0, n}},
	}
}

// six is l with an IPv6 half.
func six(l Lease, subnet string) Lease {
	l.IPv6Subnet = netip.MustParsePrefix(subnet)
	return l
}

func TestTakenBy(t *testing.T) {
	const key, subnet = "subnets/10.5.3.0-24", "10.5.3.0/24"
	ours := leaseOf(1, key, subnet)
	udp := leaseOf(2, key, subnet)
	udp.Attrs.BackendType = "udp"
	tests := []struct {
		name string
		own  Lease
		all  []Lease
		by   string // key
	}{
		{"it is ours", ours, []Lease{ours}, ""},
		{"it was deleted", ours, nil, ""},
		{"another host writes to the key", ours, []Lease{leaseOf(2, key, subnet)}, key},
		{"another host holds it under another key", ours, []Lease{leaseOf(2, key+"&fd00::-56", subnet)}, key + "&fd00::-56"},
		{"it was deleted and another host holds a part", ours, []Lease{leaseOf(2, "subnets/10.5.3.128-25", "10.5.3.128/25")}, "subnets/10.5.3.128-25"},
		{"another host holds a part of it beside us", ours, []Lease{ours, leaseOf(2, "subnets/10.5.3.128-25", "10.5.3.128/25")}, ""},
		{"the same, in the other order", ours, []Lease{leaseOf(2, "subnets/10.5.3.0-23", "10.5.2.0/23"), ours}, ""},
		{"we hold another one besides", ours, []Lease{leaseOf(1, "subnets/10.5.4.0-24", "10.5.4.0/24"), leaseOf(2, key, subnet)}, key},
		{"another host holds our IPv6 half", six(ours, "fd00:0:0:1::/64"), []Lease{six(leaseOf(2, "subnets/10.5.4.0-24&fd00::-63", "10.5.4.0/24"), "fd00::/63")}, "subnets/10.5.4.0-24&fd00::-63"},
		{"another host holds another IPv6 half", six(ours, "fd00:0:0:1::/64"), []Lease{six(leaseOf(2, "subnets/10.5.4.0-24&fd00::-64", "10.5.4.0/24"), "fd00::/64")}, ""},
		{"another host holds another subnet", ours, []Lease{leaseOf(2, "subnets/10.5.4.0-24", "10.5.4.0/24")}, ""},
		{"another backend's host writes to the key", ours, []Lease{udp}, ""},
		{"there is no lease of ours yet", Lease{}, []Lease{leaseOf(2, key, subnet)}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			by, taken := Snapshot{Leases: tt.all}.TakenBy(tt.own)
			if by.Key != tt.by || taken != (tt.by != "") {
				t.Errorf("got %q, %t, want %q", by.Key, taken, tt.by)
			}
		})
	}
}
