// SPDX-License-Identifier: Apache-2.0

package host

import (
	"net"
	"net/netip"
	"regexp"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
)

func TestFindUplink(t *testing.T) {
	ip := netip.MustParseAddr
	tests := []struct {
		name   string
		choice Choice
		want   string // interface and address
		err    string
	}{
		{"by name", Choice{Names: []string{"in0"}}, "in0 10.1.0.1", ""},
		{"by name, the first that exists", Choice{Names: []string{"nope", "in0", "out0"}}, "in0 10.1.0.1", ""},
		{"by address", Choice{Names: []string{"192.0.2.1"}}, "out0 192.0.2.1", ""},
		{"by the interface's second address", Choice{Names: []string{"10.1.0.2"}}, "in0 10.1.0.2", ""},
		{"the public address, where the interface has it", Choice{Names: []string{"in0"}, PublicIP: ip("10.1.0.2")}, "in0 10.1.0.2", ""},
		{"a public address behind NAT", Choice{Names: []string{"in0"}, PublicIP: ip("203.0.113.9")}, "in0 10.1.0.1", ""},
		{"pattern of an address", Choice{Patterns: []*regexp.Regexp{regexp.MustCompile(`^10\.`)}}, "in0 10.1.0.1", ""},
		{"pattern of a name", Choice{Patterns: []*regexp.Regexp{regexp.MustCompile(`^out`)}}, "out0 192.0.2.1", ""},
		{"on the way to an address", Choice{CanReach: ip("10.1.0.77")}, "in0 10.1.0.1", ""},
		{"that has the public address", Choice{PublicIP: ip("10.1.0.1")}, "in0 10.1.0.1", ""},
		{"public address nowhere: default route", Choice{PublicIP: ip("203.0.113.9")}, "out0 192.0.2.1", ""},
		{"default route of the lowest metric", Choice{}, "out0 192.0.2.1", ""},
		{"no such interface", Choice{Names: []string{"eth9"}}, "", "no interface has the name or address eth9: this host has lo, in0 (10.1.0.1), out0 (192.0.2.1), bare0"},
		{"no pattern matches", Choice{Patterns: []*regexp.Regexp{regexp.MustCompile(`^wlan`)}}, "", "no interface matches -iface-regex [^wlan]"},
		{"interface without address", Choice{Names: []string{"bare0"}}, "", "interface bare0 has no IPv4 address"},
	}
	inNamespace(t, func() {
		in := addInterface(t, "in0", "10.1.0.1/24", "10.1.0.2/24", "169.254.7.7/16")
		out := addInterface(t, "out0", "192.0.2.1/24")
		addInterface(t, "bare0")
		addDefault(t, in, "10.1.0.254", 200)
		addDefault(t, out, "192.0.2.254", 100)
		for _, tt := range tests {
			up, err := FindUplink(tt.choice)
			switch {
			case tt.err != "":
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("%s: got error %v, want %q", tt.name, err, tt.err)
				}
			case err != nil:
				t.Errorf("%s: %v", tt.name, err)
			case up.Name+" "+up.Addr.String() != tt.want:
				t.Errorf("%s: got %s %s, want %s", tt.name, up.Name, up.Addr, tt.want)
			case up.MTU != 1500 || up.Index == 0:
				t.Errorf("%s: got MTU %d and index %d, want 1500 and the interface's", tt.name, up.MTU, up.Index)
			}
		}
	})
}

func TestFindUplinkWithoutDefaultRoute(t *testing.T) {
	inNamespace(t, func() {
		addInterface(t, "in0", "10.1.0.1/24")
		_, err := FindUplink(Choice{})
		if err == nil || !strings.Contains(err.Error(), "name it with -iface") {
			t.Errorf("got error %v, want one that says to use -iface", err)
		}
	})
}

func TestFindUplinkOfSeveralNextHops(t *testing.T) {
	inNamespace(t, func() {
		a, b := addInterface(t, "a0", "10.1.0.1/24"), addInterface(t, "b0", "10.2.0.1/24")
		must(t, netlink.RouteAdd(&netlink.Route{MultiPath: []*netlink.NexthopInfo{
			{LinkIndex: a.Attrs().Index, Gw: net.IPv4(10, 1, 0, 254)},
			{LinkIndex: b.Attrs().Index, Gw: net.IPv4(10, 2, 0, 254)},
		}, Dst: &net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)}}))
		up, err := FindUplink(Choice{})
		if err != nil || up.Name != "a0" {
			t.Errorf("got %v, %v, want a0", up, err)
		}
	})
}

func addDefault(t *testing.T, l netlink.Link, gw string, metric int) {
	t.Helper()
	must(t, netlink.RouteAdd(&netlink.Route{LinkIndex: l.Attrs().Index, Gw: net.ParseIP(gw), Priority: metric}))
}
