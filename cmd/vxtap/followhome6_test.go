// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"vxtap/lease"
)

func TestFollowHomeIPv6(t *testing.T) {
	one, two := netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2")
	for _, tt := range []struct {
		name      string
		now, mine netip.Addr // of the interface; that has the tunnel's address
		public    string
		refuses   error
		want      []netip.Addr
		why       string
	}{
		{"nothing changes", one, one, "", nil, nil, ""},
		{"another is preferred, and the tunnel's is there", two, one, "", nil, nil, ""},
		{"another in its place", two, netip.Addr{}, "", nil, []netip.Addr{two}, ""},
		{"none", netip.Addr{}, netip.Addr{}, "", nil, nil, "the interface eth0 has none"},
		{"inside the overlay", netip.MustParseAddr("fd00:5::7"), netip.Addr{}, "", nil, nil, "inside the overlay's IPv6Network"},
		{"what -public-ipv6 names is gone", two, netip.Addr{}, "2001:db8::1", nil, nil, "-public-ipv6=2001:db8::1 is on no interface"},
		{"behind NAT", two, netip.Addr{}, "2001:db8:99::1", nil, []netip.Addr{two}, ""},
		{"it cannot be taken yet", two, netip.Addr{}, "", errors.New("address not there yet"), nil, "address not there yet"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m, f := newMover(t, "")
			config, err := lease.ParseConfig([]byte(`{"EnableIPv6": true, "Network": "10.5.0.0/16", "IPv6Network": "fd00:5::/48", "Backend": {"Type": "vxlan"}}`))
			if err != nil {
				t.Fatal(err)
			}
			m.config = config
			m.ipv6 = m.addSide(ipv6, "flannel-v6.1")
			m.ipv6.mtu.Store(1430)
			if tt.public != "" {
				m.d.publicIPv6 = netip.MustParseAddr(tt.public)
			}
			at := eth0
			at.Addr6 = one
			m.d.home.Store(m.d.homeAt(at))
			f.now.Addr6, f.mine.Addr6 = tt.now, tt.mine
			var went []netip.Addr
			m.follow6 = func(at home, addr netip.Addr) error {
				if tt.refuses == nil {
					went = append(went, addr)
					at.uplink.Addr6 = addr
					m.d.home.Store(m.d.homeAt(at.uplink))
				}
				return tt.refuses
			}
			start := time.Unix(1000, 0)
			m.walk(start, settleFor/2)
			if len(went) > 0 {
				t.Errorf("went to %v at once", went)
			}
			m.walk(start.Add(settleFor/2), 3*settleFor)
			if !slices.Equal(went, tt.want) || len(f.went) != 0 {
				t.Errorf("went to %v and %v, want %v and nowhere by IPv4", went, f.went, tt.want)
			}
			said := strings.Join(m.notices(), "\n")
			if tt.why == "" && said != "" || !strings.Contains(said, tt.why) {
				t.Errorf("got the notices %q, want %q", said, tt.why)
			}
			if n := strings.Count(f.log.String(), "trying on"); tt.why != "" && n != 1 {
				t.Errorf("said %d times, want once:\n%s", n, &f.log)
			}
		})
	}
}
