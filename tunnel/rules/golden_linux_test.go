// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The text is that of e2e/rules.go of flannel, without the comments of its
// chains, and with the first and fourth rule of its iptables.
const goldenNFT = `table ip flannel-ipv4 {
	chain postrtg {
		type nat hook postrouting priority srcnat; policy accept;
		meta mark & 0x00004000 == 0x00004000 return
		ip saddr 10.5.1.0/24 ip daddr 10.5.0.0/16 return
		ip saddr 10.5.0.0/16 ip daddr 10.5.1.0/24 return
		ip saddr != 10.5.0.0/16 ip daddr 10.5.1.0/24 return
		ip saddr 10.5.0.0/16 ip daddr != 224.0.0.0/4 masquerade fully-random
		ip saddr != 10.5.0.0/16 ip daddr 10.5.0.0/16 masquerade fully-random
	}

	chain forward {
		type filter hook forward priority filter; policy accept;
		ip saddr 10.5.0.0/16 accept
		ip daddr 10.5.0.0/16 accept
	}
}
`

// The text is that of e2e/rules.go of flannel.
const goldenIPTables = `*nat
:PREROUTING ACCEPT
:INPUT ACCEPT
:OUTPUT ACCEPT
:POSTROUTING ACCEPT
:FLANNEL-POSTRTG -
-A POSTROUTING -m comment --comment "flanneld masq" -j FLANNEL-POSTRTG
-A FLANNEL-POSTRTG -m mark --mark 0x4000/0x4000 -m comment --comment "flanneld masq" -j RETURN
-A FLANNEL-POSTRTG -s 10.5.1.0/24 -d 10.5.0.0/16 -m comment --comment "flanneld masq" -j RETURN
-A FLANNEL-POSTRTG -s 10.5.0.0/16 -d 10.5.1.0/24 -m comment --comment "flanneld masq" -j RETURN
-A FLANNEL-POSTRTG ! -s 10.5.0.0/16 -d 10.5.1.0/24 -m comment --comment "flanneld masq" -j RETURN
-A FLANNEL-POSTRTG -s 10.5.0.0/16 ! -d 224.0.0.0/4 -m comment --comment "flanneld masq" -j MASQUERADE --random-fully
-A FLANNEL-POSTRTG ! -s 10.5.0.0/16 -d 10.5.0.0/16 -m comment --comment "flanneld masq" -j MASQUERADE --random-fully
COMMIT
*filter
:INPUT ACCEPT
:FORWARD ACCEPT
:OUTPUT ACCEPT
:FLANNEL-FWD -
-A FORWARD -m comment --comment "flanneld forward" -j FLANNEL-FWD
-A FLANNEL-FWD -s 10.5.0.0/16 -m comment --comment "flanneld forward" -j ACCEPT
-A FLANNEL-FWD -d 10.5.0.0/16 -m comment --comment "flanneld forward" -j ACCEPT
COMMIT
`

// flannel has the same rules for both families: e2e/rules.go.
func TestGolden(t *testing.T) {
	need(t, "nft", "iptables", "iptables-restore", "ip6tables", "ip6tables-restore")
	everywhere(t, func(t *testing.T, f family, k Kind) {
		s := newSpace(t, "")
		want := f.in(map[Kind]string{NFTables: goldenNFT, IPTables: goldenIPTables}[k])
		if got, want := s.apply(f.plan(k)), []string{"the masquerading rules", "the forward rules"}; !slices.Equal(got, want) {
			t.Errorf("got %v set at first, want %v", got, want)
		}
		if diff := cmp.Diff(want, s.listOf(f, k)); diff != "" {
			t.Error(diff)
		}
		if got := s.apply(f.plan(k)); len(got) != 0 {
			t.Errorf("got %v set again, want nothing", got)
		}
		// Of the exclusions each family takes its own; a prefix of no whole bytes is
		// compared behind a mask.
		more := f.plan(k)
		more.Exclude = []netip.Prefix{
			netip.MustParsePrefix("192.168.128.0/17"), netip.MustParsePrefix("10.96.0.1/32"),
			netip.MustParsePrefix("2001:db8::/33"), netip.MustParsePrefix("2001:db8:9::1/128"),
		}
		more.Random, more.Whole = false, f == four // nothing of IPv6 comes by the uplink
		s.apply(more)
		for _, r := range map[Kind][]string{
			NFTables: {
				"ip saddr 10.5.0.0/16 ip daddr 192.168.128.0/17 return\n\t\tip saddr 10.5.0.0/16 ip daddr 10.96.0.1 return\n\t\tip saddr 10.5.0.0/16 ip daddr != 224.0.0.0/4 masquerade\n",
				"ip daddr 10.5.0.0/16 accept\n\t\tiifname \"vxup.1\" accept\n\t}",
			},
			IPTables: {
				"-s 10.5.0.0/16 -d 192.168.128.0/17 -m comment --comment \"flanneld masq\" -j RETURN\n-A FLANNEL-POSTRTG -s 10.5.0.0/16 -d 10.96.0.1/32 -m comment --comment \"flanneld masq\" -j RETURN\n-A FLANNEL-POSTRTG -s 10.5.0.0/16 ! -d 224.0.0.0/4 -m",
				"-A FLANNEL-FWD -i vxup.1 -m comment --comment \"flanneld forward\" -j ACCEPT\nCOMMIT",
			},
		}[k] {
			if got := s.listOf(f, k); strings.Contains(got, f.in(r)) != (f == four || !strings.Contains(r, "vxup")) {
				t.Errorf("got %s\nwant in it: %s", got, f.in(r))
			}
		}
		if got := s.apply(more); len(got) != 0 {
			t.Errorf("got %v set again, want nothing", got)
		}
		s.apply(f.plan(k))
		if diff := cmp.Diff(want, s.listOf(f, k)); diff != "" {
			t.Errorf("after the additions were taken back: %s", diff)
		}
	})
}

// What flanneld left is taken over where it is the same, and set right where it
// is not.
func TestRulesOfFlanneld(t *testing.T) {
	need(t, "nft", "iptables", "iptables-restore")
	t.Run("iptables", func(t *testing.T) {
		s := newSpace(t, "")
		s.apply(plan(IPTables))
		before := s.list(IPTables)
		if got := s.apply(plan(IPTables)); len(got) != 0 || s.list(IPTables) != before {
			t.Errorf("got %v", got)
		}
	})
	t.Run("nftables", func(t *testing.T) {
		s := newSpace(t, "")
		theirs := strings.NewReplacer("meta mark & 0x00004000 == 0x00004000", "meta mark 0x00004000",
			"saddr != 10.5.0.0/16 ip daddr 10.5.1.0/24", "saddr != 10.5.1.0/24 ip daddr 10.5.0.0/16").Replace(goldenNFT)
		s.run("nft -f - <<'E'\n" + theirs + "E")
		if got, want := s.apply(plan(NFTables)), []string{"the masquerading rules"}; !slices.Equal(got, want) {
			t.Errorf("got %v set, want %v: flanneld's forward rules are ours", got, want)
		}
		if diff := cmp.Diff(goldenNFT, s.list(NFTables)); diff != "" {
			t.Error(diff)
		}
	})
}

// Whatever somebody does to our rules is undone, and to nobody else's.
func TestMended(t *testing.T) {
	need(t, "nft", "iptables", "iptables-restore", "ip6tables", "ip6tables-restore")
	harms := map[Kind][]struct{ name, harm string }{
		NFTables: {
			{"a rule deleted", "nft delete rule ip flannel-ipv4 postrtg handle $(nft -a list chain ip flannel-ipv4 postrtg | sed -n 's/.*saddr 10.5.1.0.*handle //p' | head -n 1)"},
			{"two rules swapped", "nft flush chain ip flannel-ipv4 forward; nft add rule ip flannel-ipv4 forward ip daddr 10.5.0.0/16 accept; nft add rule ip flannel-ipv4 forward ip saddr 10.5.0.0/16 accept"},
			{"a rule twice", "nft add rule ip flannel-ipv4 forward ip saddr 10.5.0.0/16 accept"},
			{"a rule of an earlier subnet", "nft insert rule ip flannel-ipv4 postrtg ip saddr 10.5.9.0/24 ip daddr 10.5.0.0/16 return"},
			{"a chain emptied", "nft flush chain ip flannel-ipv4 postrtg"},
			{"a chain deleted", "nft flush chain ip flannel-ipv4 postrtg; nft delete chain ip flannel-ipv4 postrtg"},
			{"the table deleted", "nft delete table ip flannel-ipv4"},
			{"the whole rule set flushed", "nft flush ruleset"},
			{"a chain at another hook", "nft flush chain ip flannel-ipv4 forward; nft delete chain ip flannel-ipv4 forward; nft add chain ip flannel-ipv4 forward '{ type filter hook input priority 0; }'"},
			{"a policy of drop", "nft add chain ip flannel-ipv4 forward '{ policy drop; }'"},
		},
		IPTables: {
			{"a rule deleted", "iptables -t nat -D FLANNEL-POSTRTG 2"},
			{"the jump deleted", "iptables -t nat -D POSTROUTING 1"},
			{"a rule inserted before ours", "iptables -I FLANNEL-FWD -d 10.5.0.0/16 -j DROP"},
			{"a chain emptied", "iptables -F FLANNEL-FWD"},
			{"a chain deleted", "iptables -F FORWARD; iptables -F FLANNEL-FWD; iptables -X FLANNEL-FWD"},
			{"all emptied", "iptables -F; iptables -X; iptables -t nat -F; iptables -t nat -X"},
		},
	}
	everywhere(t, func(t *testing.T, f family, k Kind) {
		for _, tt := range harms[k] {
			t.Run(tt.name, func(t *testing.T) {
				s := newSpace(t, "")
				s.apply(f.plan(k))
				want := s.listOf(f, k)
				s.run(f.in(tt.harm))
				if got := s.apply(f.plan(k)); len(got) == 0 {
					t.Error("nothing was set again")
				}
				// The order of chains in a listing is that of their making.
				if got := s.listOf(f, k); !slices.Equal(sortedLines(got), sortedLines(want)) {
					t.Error(cmp.Diff(want, got))
				}
				if got := s.apply(f.plan(k)); len(got) != 0 {
					t.Errorf("got %v set again", got)
				}
			})
		}
	})
}

func sortedLines(s string) []string {
	all := strings.Split(s, "\n")
	slices.Sort(all)
	return all
}

func TestForeignRulesStay(t *testing.T) {
	need(t, "nft", "iptables", "iptables-restore")
	both(t, func(t *testing.T, k Kind) {
		s := newSpace(t, "")
		theirs := map[Kind]string{
			NFTables: "nft add table ip mine; nft add chain ip mine c '{ type filter hook forward priority 0; }'; nft add rule ip mine c ip saddr 10.5.0.0/16 counter drop",
			IPTables: "iptables -A FORWARD -s 10.5.0.0/16 -j DROP; iptables -N MINE; iptables -A MINE -d 10.5.0.0/16 -j ACCEPT; iptables -t nat -A POSTROUTING -s 10.5.0.0/16 -j MASQUERADE",
		}[k]
		s.run(theirs)
		before := s.list(k)
		other := plan(k)
		other.Uplink, other.Whole = "vxup.2", true
		other.Network, other.Subnet = netip.MustParsePrefix("10.6.0.0/16"), netip.MustParsePrefix("10.6.1.0/24")
		// Two networks on one host share flannel's chains, and leave each other alone.
		s.apply(other)
		s.apply(plan(k))
		for _, p := range []Plan{other, plan(k)} {
			if got := s.apply(p); len(got) != 0 {
				t.Errorf("got %v set again for %s", got, p.Network)
			}
		}
		none := plan(k)
		none.Masquerade, none.Forward = false, false
		s.apply(none)
		if got := s.apply(other); len(got) != 0 || !strings.Contains(s.list(k), "10.6.1.0/24") {
			t.Errorf("got %v set again after the other network had gone", got)
		}
		none.Network, none.Uplink = other.Network, other.Uplink
		s.apply(none)
		if diff := cmp.Diff(before, s.list(k)); diff != "" {
			t.Errorf("not as before: %s", diff)
		}
	})
}

func TestRulesOfAnEarlierSubnetGo(t *testing.T) {
	need(t, "nft", "iptables", "iptables-restore")
	both(t, func(t *testing.T, k Kind) {
		s := newSpace(t, "")
		s.apply(plan(k))
		want := s.list(k)
		for _, old := range []Plan{
			{Network: netip.MustParsePrefix("10.5.0.0/16"), Subnet: netip.MustParsePrefix("10.5.9.0/24")},
			{Network: netip.MustParsePrefix("10.9.0.0/16"), Subnet: netip.MustParsePrefix("10.9.9.0/24")},
		} {
			old.Kind, old.Masquerade, old.Forward, old.Exclude = k, true, true, []netip.Prefix{netip.MustParsePrefix("192.168.0.0/16")}
			old.Previous = netip.MustParsePrefix("10.5.0.0/16")
			s.apply(old)
			p := plan(k)
			p.Previous = old.Network
			s.apply(p)
			if diff := cmp.Diff(want, s.list(k)); diff != "" {
				t.Errorf("after %s: %s", old.Subnet, diff)
			}
		}
	})
}

func TestRetireTakesTheOtherKindAway(t *testing.T) {
	need(t, "nft", "iptables", "iptables-restore", "ip6tables", "ip6tables-restore")
	everywhere(t, func(t *testing.T, f family, k Kind) {
		s := newSpace(t, "")
		other := IPTables
		if k == IPTables {
			other = NFTables
		}
		s.apply(f.plan(other))
		s.apply(f.plan(k))
		var removed []string
		err := s.Do(func() (err error) {
			removed, err = Retire(t.Context(), f.plan(k))
			return err
		})
		if err != nil || len(removed) != 2 {
			t.Errorf("got %v removed and %v", removed, err)
		}
		if strings.Contains(s.listOf(f, other), f.in(map[Kind]string{NFTables: "flannel-ipv4", IPTables: "FLANNEL-POSTRTG"}[other])) {
			t.Errorf("got still %s", s.listOf(f, other))
		}
		if got := s.apply(f.plan(k)); len(got) != 0 {
			t.Errorf("got %v set again", got)
		}
	})
}

func TestRemove(t *testing.T) {
	need(t, "nft", "iptables", "ip6tables", "iptables-restore", "ip6tables-restore")
	s := newSpace(t, "")
	remove := func() (removed []string) {
		err := s.Do(func() (err error) {
			removed, err = Remove(t.Context())
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return removed
	}
	if got := remove(); len(got) != 0 {
		t.Errorf("got %v removed from an empty host", got)
	}
	s.apply(plan(NFTables))
	s.apply(plan(IPTables))
	s.run("nft add table ip6 flannel-ipv6; nft add table ip6 mine; ip6tables -N FLANNEL-FWD; ip6tables -A FORWARD -j FLANNEL-FWD")
	want := []string{
		"nftables table ip flannel-ipv4", "nftables table ip6 flannel-ipv6",
		"iptables chain FLANNEL-POSTRTG of table nat", "iptables chain FLANNEL-FWD of table filter", "ip6tables chain FLANNEL-FWD of table filter",
	}
	if got := remove(); !slices.Equal(got, want) {
		t.Errorf("got %v removed, want %v", got, want)
	}
	if got := remove(); len(got) != 0 {
		t.Errorf("got %v removed again", got)
	}
	if got := s.run("nft list ruleset"); strings.Contains(strings.ToLower(got), "flannel") || !strings.Contains(got, "mine") {
		t.Errorf("got %s", got)
	}
}

// To look for rules must not make tables: a host without them is faster.
func TestLookingMakesNothing(t *testing.T) {
	need(t, "nft", "iptables-legacy", "iptables-legacy-restore")
	s := newSpace(t, "")
	dir := t.TempDir()
	for _, suffix := range []string{"", "-restore"} {
		path, err := exec.LookPath("iptables-legacy" + suffix)
		if err == nil {
			err = os.Symlink(path, filepath.Join(dir, "iptables"+suffix))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	p := plan(IPTables)
	p.Masquerade, p.Forward = false, false
	s.apply(p)
	if err := s.Do(func() error { _, err := Remove(t.Context()); return err }); err != nil {
		t.Error(err)
	}
	if got := s.run("cat /proc/thread-self/net/ip_tables_names 2>/dev/null; nft list ruleset"); got != "" {
		t.Errorf("got %q made", got)
	}
}

func TestIsRandomVersion(t *testing.T) {
	t.Parallel()
	for printed, want := range map[string]bool{
		"iptables v1.8.9 (nf_tables)\n": true, "iptables v1.6.2\n": true, "iptables v1.6.1\n": false, "iptables v1.4.21\n": false,
		"ip6tables v1.8.9 (legacy)\n": true, "ip6tables v1.4.21\n": false, "iptables v2.0.0": true, "": true,
	} {
		if got := isRandomVersion(printed); got != want {
			t.Errorf("%q: got %v, want %v", printed, got, want)
		}
	}
}

func TestPlanOfNoNetwork(t *testing.T) {
	t.Parallel()
	for _, p := range []Plan{
		{}, {Network: netip.MustParsePrefix("10.5.0.0/16")}, {Network: netip.MustParsePrefix("0.0.0.0/0"), Subnet: netip.MustParsePrefix("10.5.1.0/24")},
		{Network: netip.MustParsePrefix("10.5.0.0/16"), Subnet: netip.MustParsePrefix("fd00:5:0:1::/64")},
		{Network: netip.MustParsePrefix("::ffff:10.5.0.0/112"), Subnet: netip.MustParsePrefix("::ffff:10.5.1.0/120")},
	} {
		if _, err := Apply(t.Context(), p); err == nil {
			t.Errorf("got no error for %+v", p)
		}
	}
}
