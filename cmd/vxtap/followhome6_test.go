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
			m, f := newMover6(t, one)
			if tt.public != "" {
				m.d.publicIPv6 = netip.MustParseAddr(tt.public)
			}
			m.d.home.Store(m.d.homeAt(m.d.at().uplink))
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

// A link-local address is worth nothing to hosts with others: a host leaves it as
// soon as it can, never takes it in place of another, and says so while it has it.
func TestLinkLocalIPv6IsLeft(t *testing.T) {
	const is = "is link-local"
	local, global := netip.MustParseAddr("fe80::1"), netip.MustParseAddr("2001:db8::1")
	for _, tt := range []struct {
		name          string
		had, now      netip.Addr
		mine          netip.Addr // that has what it had
		public, iface string
		refuses       error
		want          []netip.Addr
		why           string // in the notices; "": there are none
	}{
		{"a global one comes", local, global, local, "", "", nil, []netip.Addr{global}, ""},
		{"a global one comes that cannot be taken yet", local, global, local, "", "", errors.New("tentative"), nil, "tentative"},
		{"there is no other", local, local, local, "", "", nil, nil, is},
		{"it is gone", local, netip.Addr{}, netip.Addr{}, "", "", nil, nil, "the tunnel's IPv6 address fe80::1 is gone"},
		{"only it is left of two", global, local, netip.Addr{}, "", "", nil, nil, "the tunnel's IPv6 address 2001:db8::1 is gone"},
		{"another of its kind", local, netip.MustParseAddr("fe80::2"), netip.Addr{}, "", "", nil, []netip.Addr{netip.MustParseAddr("fe80::2")}, is},
		{"the global one is inside the overlay", local, netip.MustParseAddr("fd00:5::7"), local, "", "", nil, nil, "inside the overlay's IPv6Network"},
		{"-public-ipv6 names it", local, global, local, "fe80::1", "", nil, nil, ""},
		{"-iface names it", local, global, local, "", "fe80::1", nil, nil, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m, f := newMover6(t, tt.had)
			if tt.public != "" {
				m.d.publicIPv6 = netip.MustParseAddr(tt.public)
			}
			if tt.iface != "" {
				m.d.settings.uplink.Names = []string{tt.iface}
			}
			f.now.Addr6, f.mine.Addr6 = tt.now, tt.mine
			var went []netip.Addr
			m.follow6 = func(at home, addr netip.Addr) error {
				if tt.refuses == nil {
					went = append(went, addr)
					at.uplink.Addr6, f.mine.Addr6 = addr, addr
					m.d.home.Store(m.d.homeAt(at.uplink))
				}
				return tt.refuses
			}
			m.walk(time.Unix(1000, 0), 3*settleFor)
			if !slices.Equal(went, tt.want) {
				t.Errorf("went to %v, want %v", went, tt.want)
			}
			said := strings.Join(m.notices(), "\n")
			if tt.why == "" && said != "" || !strings.Contains(said, tt.why) {
				t.Errorf("got the notices %q, want %q", said, tt.why)
			}
			if tt.mine == local && strings.Contains(said, "is gone") {
				t.Errorf("got the notices %q of an address that is there", said)
			}
		})
	}
}

// A VPN with a default route of its own is no place to go for a global address.
func TestLinkLocalIPv6StaysOnItsInterface(t *testing.T) {
	m, f := newMover6(t, netip.MustParseAddr("fe80::1"))
	f.now = tun0
	f.now.Addr6, f.mine.Addr6 = netip.MustParseAddr("2001:db8:99::1"), netip.MustParseAddr("fe80::1")
	m.follow6 = func(_ home, addr netip.Addr) error {
		t.Errorf("went to %v of %s", addr, f.now.Name)
		return errors.New("no")
	}
	m.walk(time.Unix(1000, 0), 3*settleFor)
}

// newMover6 returns a host in a dual-stack network that goes by addr.
func newMover6(t *testing.T, addr netip.Addr) (*mover, *fakeHome) {
	t.Helper()
	m, f := newMover(t, "")
	config, err := lease.ParseConfig([]byte(`{"EnableIPv6": true, "Network": "10.5.0.0/16", "IPv6Network": "fd00:5::/48", "Backend": {"Type": "vxlan"}}`))
	if err != nil {
		t.Fatal(err)
	}
	m.config = config
	m.ipv6 = m.addSide(ipv6, "flannel-v6.1")
	m.ipv6.mtu.Store(1430)
	at := eth0
	at.Addr6 = addr
	m.d.home.Store(m.d.homeAt(at))
	return m, f
}
