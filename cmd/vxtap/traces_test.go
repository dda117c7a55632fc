// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net"
	"net/netip"
	"testing"

	"vxtap/encap/ether"
	"vxtap/lease"
)

func TestTraces(t *testing.T) {
	mac, other := ether.MAC{2, 0, 0, 0, 0, 1}, ether.MAC{2, 0, 0, 0, 0, 2}
	own := lease.Lease{
		Key: "subnets/10.5.1.0-24", Subnet: netip.MustParsePrefix("10.5.1.0/24"),
		Attrs: lease.Attrs{PublicIP: netip.MustParseAddr("192.0.2.1"), MAC: mac},
	}
	for _, tt := range []struct {
		name string
		t    traces
		want bool
	}{
		{"none at all", traces{}, false},
		{"an interface has the address", traces{addrs: []netip.Addr{netip.MustParseAddr("192.0.2.1")}}, true},
		{"an interface has another", traces{addrs: []netip.Addr{netip.MustParseAddr("192.0.2.9")}}, false},
		{"the state file has the key", traces{before: lease.Lease{Key: own.Key}}, true},
		{"the state file has the MAC, under another key", traces{before: lease.Lease{Key: "subnets/10.5.2.0-24", Attrs: lease.Attrs{MAC: mac}}}, true},
		{"the state file has another lease", traces{before: lease.Lease{Key: "subnets/10.5.2.0-24", Attrs: lease.Attrs{MAC: other}}}, false},
		{"the subnet file", traces{subnet: own.Subnet}, true},
		{"the subnet file of another", traces{subnet: netip.MustParsePrefix("10.5.2.0/24")}, false},
		{"a device of a flanneld", traces{interfaces: []net.Interface{{HardwareAddr: mac[:]}}}, true},
		{"other devices", traces{interfaces: []net.Interface{{HardwareAddr: other[:]}, {}}}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.t.of(own); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}
