// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net/netip"
	"strings"
	"testing"

	"vxtap/lease"
	"vxtap/tunnel/host"
)

// What a host is without that cannot take part by IPv6 is said with what to do.
func TestWithoutIPv6(t *testing.T) {
	v6 := netip.MustParseAddr("2001:db8::1")
	for _, tt := range []struct {
		name   string
		addr   netip.Addr
		mtu    int
		config int // Backend.MTU
		public string
		want   string // "" for nothing
	}{
		{"all is there", v6, 1500, 0, "", ""},
		{"just enough", v6, 1350, 0, "", ""},
		{"no address", netip.Addr{}, 1500, 0, "", "the interface eth0 has no IPv6 address: give it one"},
		{"no address to bind to behind NAT", netip.Addr{}, 1500, 0, "2001:db8:99::1", "has no IPv6 address"},
		{"an MTU that leaves too little", v6, 1349, 0, "", "the MTU 1349 of the interface eth0 leaves less than the 1280 bytes that IPv6 needs: give it 1350 or more"},
		{"the config's MTU is what counts", v6, 1349, 1500, "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := &daemon{}
			if tt.public != "" {
				d.publicIPv6 = netip.MustParseAddr(tt.public)
			}
			d.home.Store(d.homeAt(host.Uplink{Name: "eth0", MTU: tt.mtu, Addr: netip.MustParseAddr("192.0.2.1"), Addr6: tt.addr}))
			got := d.withoutIPv6(lease.Backend{MTU: tt.config})
			if (got == "") != (tt.want == "") || !strings.Contains(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}
