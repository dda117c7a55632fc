// SPDX-License-Identifier: Apache-2.0

package lease

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"testing"

	"vxtap/encap/ether"
)

// What is written by hand is what encoding/json writes.
func TestLeasesAsEncodingJSONHasThem(t *testing.T) {
	usual := leaseOf(2, "subnets/10.5.3.0-24", "10.5.3.0/24")
	usual.Created, usual.Revision, usual.Grant, usual.Attrs.VNI = 3, 4, -5, 16777215
	dual := usual
	dual.Key, dual.Attrs.PublicIPv6, dual.Attrs.IPv6MAC = "subnets/10.5.3.0-24&fd00:12::-56", netip.MustParseAddr("fd00::2"), ether.MAC{2, 9}
	half := usual
	half.Attrs.PublicIPv6 = netip.MustParseAddr("fd00::2")
	none := dual
	none.Attrs.PublicIPv6 = netip.Addr{}
	twice := dual
	twice.Key = "subnets/10.5.3.0-24&fd00:12::-56&"
	odd := usual
	odd.Key = "subnets/\"<&\\\u2028\x01"
	udp := usual
	udp.Attrs = Attrs{BackendType: "u<dp\"", PublicIP: netip.MustParseAddr("192.0.2.3")}
	for name, l := range map[string]Lease{"usual": usual, "dual stack": dual, "half of it": half, "the other half of it": none, "two ampersands": twice, "an odd key": odd, "another backend": udp} {
		t.Run(name, func(t *testing.T) {
			p, err := wireLease(l)
			if err != nil {
				t.Fatal(err)
			}
			want, err := json.Marshal(p)
			if err != nil {
				t.Fatal(err)
			}
			got, err := appendLease(nil, &l)
			if err != nil || string(got) != string(want) {
				t.Errorf("got\n%s, %v, want\n%s", got, err, want)
			}
		})
	}
}

func BenchmarkEncodeMemory(b *testing.B) {
	m := usualMemory(b)
	m.All.Leases = nil
	for i := range 10000 {
		m.All.Leases = append(m.All.Leases, leaseOf(byte(i), fmt.Sprintf("subnets/10.%d.%d.0-24", i>>8, i&255), "10.5.3.0/24"))
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := m.encode(); err != nil {
			b.Fatal(err)
		}
	}
}

// Who selects again with the memory of before gets what he would get afresh.
func TestSelectorForgets(t *testing.T) {
	c, err := ParseConfig([]byte(`{"Network": "10.5.0.0/16", "Backend": {"Type": "vxlan"}}`))
	if err != nil {
		t.Fatal(err)
	}
	own := leaseOf(1, "subnets/10.5.1.0-24", "10.5.1.0/24")
	three := Snapshot{Leases: []Lease{own, leaseOf(2, "subnets/10.5.2.0-24", "10.5.2.0/24"), leaseOf(3, "subnets/10.5.2.0-23", "10.5.2.0/23")}}
	one := Snapshot{Leases: []Lease{leaseOf(4, "subnets/10.5.9.0-24", "10.5.9.0/24")}}
	var x Selector
	for i, s := range []Snapshot{three, one, three, {}, one} {
		got, want := x.Select(s, c, own), s.Select(c, own)
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("time %d: got %v, want %v", i, got, want)
		}
	}
}
