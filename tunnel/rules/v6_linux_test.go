// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vxtap/cmd/vxlab/netns"
)

// plan6 is plan for the IPv6 overlay of a dual-stack host.
func plan6(k Kind) Plan {
	p := plan(k)
	p.Network, p.Subnet, p.Uplink = netip.MustParsePrefix("fd00:5::/48"), netip.MustParsePrefix("fd00:5:0:1::/64"), ""
	return p
}

// in6 says of IPv6 what text says of IPv4.
func in6(text string) string {
	return strings.NewReplacer("10.5.0.0/16", "fd00:5::/48", "10.5.1.0/24", "fd00:5:0:1::/64", "224.0.0.0/4", "ff00::/8",
		"ip saddr", "ip6 saddr", "ip daddr", "ip6 daddr", "table ip flannel-ipv4", "table ip6 flannel-ipv6").Replace(text)
}

// list6 is all rules of the kind for IPv6, as its program prints them.
func (s space) list6(k Kind) string {
	if k == NFTables {
		return s.run("nft list table ip6 flannel-ipv6")
	}
	return s.run(`for t in nat filter; do ip6tables-save -t $t; done | grep -v '^#' | sed 's/ \[.*//'`)
}

// flannel has the same rules for both families: e2e/rules.go.
func TestGolden6(t *testing.T) {
	need(t, "nft", "ip6tables", "ip6tables-restore")
	both(t, func(t *testing.T, k Kind) {
		s := newSpace(t, "")
		want := in6(map[Kind]string{NFTables: goldenNFT, IPTables: goldenIPTables}[k])
		if got, want := s.apply(plan6(k)), []string{"the masquerading rules", "the forward rules"}; !slices.Equal(got, want) {
			t.Errorf("got %v set at first, want %v", got, want)
		}
		if diff := cmp.Diff(want, s.list6(k)); diff != "" {
			t.Error(diff)
		}
		if got := s.apply(plan6(k)); len(got) != 0 {
			t.Errorf("got %v set again, want nothing", got)
		}
		more := plan6(k)
		// Of the exclusions each family takes its own; a prefix of no whole bytes
		// is compared behind a mask.
		more.Exclude = []netip.Prefix{netip.MustParsePrefix("192.168.128.0/17"), netip.MustParsePrefix("2001:db8::/33"), netip.MustParsePrefix("2001:db8:9::1/128")}
		s.apply(more)
		for _, r := range map[Kind][]string{
			NFTables: {"ip6 saddr fd00:5::/48 ip6 daddr 2001:db8::/33 return\n\t\tip6 saddr fd00:5::/48 ip6 daddr 2001:db8:9::1 return\n\t\tip6 saddr fd00:5::/48 ip6 daddr != ff00::/8 masquerade fully-random"},
			IPTables: {"-s fd00:5::/48 -d 2001:db8::/33 -m comment --comment \"flanneld masq\" -j RETURN\n-A FLANNEL-POSTRTG -s fd00:5::/48 -d 2001:db8:9::1/128 -m"},
		}[k] {
			if got := s.list6(k); !strings.Contains(got, r) || strings.Contains(got, "192.168") {
				t.Errorf("got %s\nwant in it: %s", got, r)
			}
		}
		if got := s.apply(more); len(got) != 0 {
			t.Errorf("got %v set again, want nothing", got)
		}
		s.apply(plan6(k))
		if diff := cmp.Diff(want, s.list6(k)); diff != "" {
			t.Errorf("after the additions were taken back: %s", diff)
		}
	})
}

// The rules of both families stand side by side, and each plan keeps to its own.
func TestBothFamilies(t *testing.T) {
	need(t, "nft", "iptables", "ip6tables", "iptables-restore", "ip6tables-restore")
	both(t, func(t *testing.T, k Kind) {
		s := newSpace(t, "")
		four, six := plan(k), plan6(k)
		four.Previous, six.Previous = six.Network, four.Network // of the other: not known
		s.apply(four)
		want4 := s.list(k)
		s.apply(six)
		want6 := s.list6(k)
		for _, p := range []Plan{four, six} {
			if got := s.apply(p); len(got) != 0 {
				t.Errorf("got %v set again for %s", got, p.Network)
			}
		}
		six.Masquerade, six.Forward = false, false
		s.apply(six)
		if got := s.run("nft list ruleset; ip6tables-save"); strings.Contains(got, "fd00:5") {
			t.Errorf("got still %s", got)
		}
		if got := s.apply(four); len(got) != 0 || !strings.Contains(want4, "10.5.1.0/24") {
			t.Errorf("got %v set again after IPv6 had gone", got)
		}
		s.apply(plan6(k))
		four.Masquerade, four.Forward = false, false
		s.apply(four)
		if diff := cmp.Diff(want6, s.list6(k)); diff != "" {
			t.Errorf("after IPv4 had gone: %s", diff)
		}
	})
}

func TestMended6(t *testing.T) {
	need(t, "nft", "ip6tables", "ip6tables-restore")
	for _, tt := range []struct {
		name string
		kind Kind
		harm string
	}{
		{"a rule twice", NFTables, "nft add rule ip6 flannel-ipv6 forward ip6 saddr fd00:5::/48 accept"},
		{"a rule of an earlier subnet", NFTables, "nft insert rule ip6 flannel-ipv6 postrtg ip6 saddr fd00:5:0:9::/64 ip6 daddr fd00:5::/48 return"},
		{"a chain emptied", NFTables, "nft flush chain ip6 flannel-ipv6 postrtg"},
		{"the table deleted", NFTables, "nft delete table ip6 flannel-ipv6"},
		{"a policy of drop", NFTables, "nft add chain ip6 flannel-ipv6 forward '{ policy drop; }'"},
		{"a rule deleted", IPTables, "ip6tables -t nat -D FLANNEL-POSTRTG 2"},
		{"the jump deleted", IPTables, "ip6tables -t nat -D POSTROUTING 1"},
		{"a rule inserted before ours", IPTables, "ip6tables -I FLANNEL-FWD -d fd00:5::/48 -j DROP"},
		{"all emptied", IPTables, "ip6tables -F; ip6tables -X; ip6tables -t nat -F; ip6tables -t nat -X"},
	} {
		t.Run(string(tt.kind)+": "+tt.name, func(t *testing.T) {
			s := newSpace(t, "")
			s.apply(plan6(tt.kind))
			want := s.list6(tt.kind)
			s.run(tt.harm)
			if got := s.apply(plan6(tt.kind)); len(got) == 0 {
				t.Error("nothing was set again")
			}
			if got := s.list6(tt.kind); !slices.Equal(sortedLines(got), sortedLines(want)) {
				t.Error(cmp.Diff(want, got))
			}
			if got := s.apply(plan6(tt.kind)); len(got) != 0 {
				t.Errorf("got %v set again", got)
			}
		})
	}
}

func TestRetire6(t *testing.T) {
	need(t, "nft", "ip6tables", "ip6tables-restore")
	both(t, func(t *testing.T, k Kind) {
		s := newSpace(t, "")
		other := IPTables
		if k == IPTables {
			other = NFTables
		}
		s.apply(plan6(other))
		s.apply(plan6(k))
		var removed []string
		err := s.Do(func() (err error) {
			removed, err = Retire(t.Context(), plan6(k))
			return err
		})
		if err != nil || len(removed) != 2 {
			t.Errorf("got %v removed and %v", removed, err)
		}
		if got := s.apply(plan6(k)); len(got) != 0 {
			t.Errorf("got %v set again", got)
		}
	})
}

// world6 is the world of effect_linux_test.go in IPv6.
const (
	hostAddr6      = "2001:db8::1"
	overlayAddr6   = "fd00:5:0:1::"
	containerAddr6 = "fd00:5:0:1::5"
	elsewhereAddr6 = "fd00:5:0:2::5"
	outsideAddr6   = "2001:db8::9"
	excludedAddr6  = "2001:db8:9::9"
)

func newWorld6(t *testing.T) world {
	t.Helper()
	w := world{newSpace(t, "h"), newSpace(t, "c"), newSpace(t, "e"), newSpace(t, "o")}
	for _, s := range []space{w.host, w.container, w.elsewhere, w.outside} {
		// Else nobody has a link-local address, to find neighbours with, for a second.
		s.run("sysctl -qw net.ipv6.conf.default.accept_dad=0 net.ipv6.conf.default.dad_transmits=0")
	}
	for _, l := range []struct {
		peer             space
		name, ours, mine string
	}{
		{w.container, "cni0", "fd00:5:0:1::1/64", containerAddr6 + "/64"},
		{w.elsewhere, "flannel-v6.1", overlayAddr6 + "/128", elsewhereAddr6 + "/128"},
		{w.outside, "eth0", hostAddr6 + "/64", outsideAddr6 + "/64"},
	} {
		err := netns.AddVeth(w.host.Namespace, l.name, l.peer.Namespace, "eth0", 1500)
		if err == nil {
			err = errors.Join(w.host.AddAddr(l.name, netip.MustParsePrefix(l.ours)), w.host.SetUp(l.name),
				l.peer.AddAddr("eth0", netip.MustParsePrefix(l.mine)), l.peer.SetUp("eth0"))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	w.host.run("sysctl -qw net.ipv6.conf.all.forwarding=1; ip -6 route add fd00:5::/48 dev flannel-v6.1 src " + overlayAddr6 +
		"; ip -6 route add 2001:db8:9::/48 via " + outsideAddr6 + " dev eth0; ip addr add 2001:db8:7::1/128 dev lo nodad")
	w.container.run("ip -6 route add default via fd00:5:0:1::1")
	// As in the tunnel, nobody is asked for the address of a neighbour.
	mac := func(s space, device string) string {
		return strings.TrimSpace(s.run("ip -br link show dev " + device + " | awk '{ print $3 }'"))
	}
	w.elsewhere.run("ip -6 route add default via fe80::1 dev eth0; ip neigh add fe80::1 dev eth0 lladdr " + mac(w.host, "flannel-v6.1"))
	w.host.run("ip neigh add " + elsewhereAddr6 + " dev flannel-v6.1 lladdr " + mac(w.elsewhere, "eth0"))
	w.outside.run("ip addr add " + excludedAddr6 + "/128 dev lo nodad; ip -6 route add fd00:5::/48 via " + hostAddr6)
	for _, e := range []struct {
		who  space
		addr string
	}{{w.container, containerAddr6}, {w.elsewhere, elsewhereAddr6}, {w.outside, outsideAddr6}, {w.outside, excludedAddr6}} {
		e.who.echo(e.addr)
	}
	// The first that looks for a neighbour may find nobody for a second.
	for _, to := range []string{containerAddr6, outsideAddr6, excludedAddr6} {
		for try := 0; w.elsewhere.seen("", to) == "dropped"; try++ {
			if try == 5 {
				t.Fatalf("%s cannot be reached without any rules", to)
			}
		}
	}
	return w
}

func TestWhoIsMasqueraded6(t *testing.T) {
	need(t, "nft", "ip6tables", "ip6tables-restore", "ip", "sysctl")
	both(t, func(t *testing.T, k Kind) {
		w := newWorld6(t)
		p := plan6(k)
		p.Exclude = []netip.Prefix{netip.MustParsePrefix("2001:db8:9::/48")}
		w.host.apply(p)
		for _, tt := range []struct {
			name     string
			who      space
			from, to string
			want     string
		}{
			{"container to container elsewhere", w.container, "", elsewhereAddr6, containerAddr6},
			{"container elsewhere to container", w.elsewhere, "", containerAddr6, elsewhereAddr6},
			{"container to outside", w.container, "", outsideAddr6, hostAddr6},
			{"container to what is excluded", w.container, "", excludedAddr6, containerAddr6},
			{"container elsewhere to outside, by this host", w.elsewhere, "", outsideAddr6, hostAddr6},
			{"outside to container", w.outside, "", containerAddr6, outsideAddr6},
			{"host to its container", w.host, hostAddr6, containerAddr6, hostAddr6},
			{"host to container elsewhere", w.host, "", elsewhereAddr6, overlayAddr6},
			{"host to container elsewhere, from another of its addresses", w.host, "2001:db8:7::1", elsewhereAddr6, overlayAddr6},
			{"outside to container elsewhere, by this host", w.outside, "", elsewhereAddr6, overlayAddr6},
			{"host to outside", w.host, "", outsideAddr6, hostAddr6},
		} {
			if got := tt.who.seen(tt.from, tt.to); got != tt.want {
				t.Errorf("%s: got source %s, want %s", tt.name, got, tt.want)
			}
		}
	})
}

// A policy of drop for IPv6 is overruled by iptables' rules, and said where it
// cannot be; one for IPv4 is none of its business.
func TestForwardRulesAndADropPolicy6(t *testing.T) {
	need(t, "nft", "iptables", "ip6tables", "ip6tables-restore", "ip", "sysctl")
	for _, tt := range []struct {
		kind     Kind
		policy   string
		want     string
		dropping []string
	}{
		{IPTables, "ip6tables -P FORWARD DROP", elsewhereAddr6, nil},
		{NFTables, "ip6tables -P FORWARD DROP", "dropped", []string{"ip6 filter FORWARD"}},
		{NFTables, "iptables -P FORWARD DROP", elsewhereAddr6, nil},
		{NFTables, "nft add table inet fw; nft add chain inet fw f '{ type filter hook forward priority 0; policy drop; }'", "dropped", []string{"inet fw f"}},
	} {
		t.Run(string(tt.kind)+": "+tt.policy, func(t *testing.T) {
			w := newWorld6(t)
			w.host.run(tt.policy)
			p := plan6(tt.kind)
			w.host.apply(p)
			if got := w.elsewhere.seen("", containerAddr6); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
			var dropping []string
			err := w.host.Do(func() (err error) {
				dropping, err = Dropping(p)
				return err
			})
			if err != nil || !slices.Equal(dropping, tt.dropping) {
				t.Errorf("got %v said to drop, and %v, want %v", dropping, err, tt.dropping)
			}
		})
	}
}
