// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// family is what rules are of. Tests are written for IPv4.
type family string

const (
	four family = "IPv4"
	six  family = "IPv6"
)

// everywhere runs f for both families and both kinds.
func everywhere(t *testing.T, f func(t *testing.T, of family, k Kind)) {
	t.Helper()
	for _, of := range []family{four, six} {
		t.Run(string(of), func(t *testing.T) {
			both(t, func(t *testing.T, k Kind) { f(t, of, k) })
		})
	}
}

// in says of the family what text says of IPv4, and of the other family what it
// says of IPv6: programs, tables, networks, and the addresses of a world.
func (f family) in(text string) string {
	if f == four {
		return text
	}
	return strings.NewReplacer(
		"ip6tables", "iptables", "iptables", "ip6tables",
		"ip saddr", "ip6 saddr", "ip daddr", "ip6 daddr",
		"ip flannel-ipv4", "ip6 flannel-ipv6", "flannel-ipv4", "flannel-ipv6", "ip marks", "ip6 marks", "ip filter", "ip6 filter",
		"10.5.0.0/16", "fd00:5::/48", "10.5.1.0/24", "fd00:5:0:1::/64", "10.5.9.0/24", "fd00:5:0:9::/64", "10.5.1.0", "fd00:5:0:1::",
		"224.0.0.0/4", "ff00::/8", "192.168.128.0/17", "2001:db8::/33", "10.96.0.1", "2001:db8:9::1", "/32", "/128",
		hostAddr, hostAddr6, secondAddr, secondAddr6, containerAddr, containerAddr6,
		elsewhereAddr, elsewhereAddr6, outsideAddr, outsideAddr6, excludedAddr, excludedAddr6,
	).Replace(text)
}

// plan is that of the family on a host that has both.
func (f family) plan(k Kind) Plan {
	p := plan(k)
	if f == six {
		p.Network, p.Subnet, p.Uplink = netip.MustParsePrefix("fd00:5::/48"), netip.MustParsePrefix("fd00:5:0:1::/64"), ""
	}
	return p
}

// listOf is all rules of the kind for the family, as its program prints them.
func (s space) listOf(f family, k Kind) string {
	if f == four {
		return s.list(k)
	}
	if k == NFTables {
		return s.run("nft list ruleset ip6")
	}
	return s.run(`for t in nat filter; do ip6tables-save -t $t; done | grep -v '^#' | sed 's/ \[.*//'`)
}

// The rules of both families stand side by side, and each plan keeps to its own.
func TestBothFamilies(t *testing.T) {
	need(t, "nft", "iptables", "ip6tables", "iptables-restore", "ip6tables-restore")
	both(t, func(t *testing.T, k Kind) {
		s := newSpace(t, "")
		p4, p6 := four.plan(k), six.plan(k)
		p4.Previous, p6.Previous = p6.Network, p4.Network // of the other: not known
		s.apply(p4)
		want4 := s.list(k)
		s.apply(p6)
		want6 := s.listOf(six, k)
		for _, p := range []Plan{p4, p6} {
			if got := s.apply(p); len(got) != 0 {
				t.Errorf("got %v set again for %s", got, p.Network)
			}
		}
		p6.Masquerade, p6.Forward = false, false
		s.apply(p6)
		if got := s.run("nft list ruleset; ip6tables-save"); strings.Contains(got, "fd00:5") {
			t.Errorf("got still %s", got)
		}
		if got := s.apply(p4); len(got) != 0 || !strings.Contains(want4, "10.5.1.0/24") {
			t.Errorf("got %v set again after IPv6 had gone", got)
		}
		s.apply(six.plan(k))
		p4.Masquerade, p4.Forward = false, false
		s.apply(p4)
		if diff := cmp.Diff(want6, s.listOf(six, k)); diff != "" {
			t.Errorf("after IPv4 had gone: %s", diff)
		}
	})
}
