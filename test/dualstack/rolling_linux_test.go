// SPDX-License-Identifier: Apache-2.0

package dualstack

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"

	"vxtap/cmd/vxlab/lab"
	"vxtap/test/bed"
)

const (
	configV4   = `{"Network":"172.30.0.0/16","SubnetLen":24,"Backend":{"Type":"vxlan"}}`
	configDual = `{"Network":"172.30.0.0/16","SubnetLen":24,"EnableIPv6":true,"IPv6Network":"fd00:30::/48","Backend":{"Type":"vxlan"}}`
)

// restart is what an operator does to a host after the config has changed.
func restart(t *testing.T, b *bed.Bed, n int) {
	t.Helper()
	if err := b.StopHost(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	if err := b.StartHost(t.Context(), n); err != nil {
		t.Fatal(err)
	}
}

// wantKey fails if host n's lease is not of these subnets, and the only one.
func wantKey(t *testing.T, b *bed.Bed, h lab.Host, ipv6 bool) {
	t.Helper()
	key := "subnets/" + dashed(h.Subnet)
	if ipv6 {
		key += "&" + dashed(h.IPv6Subnet)
	}
	keys := b.Etcdctl("get", "--prefix", "--keys-only", bed.Prefix+"/subnets/"+dashed(h.Subnet))
	if got := strings.Fields(keys); len(got) != 1 || got[0] != bed.Prefix+"/"+key {
		t.Errorf("got the keys %q, want %s alone", got, key)
	}
}

// A running IPv4 network is made a dual-stack one, host by host, and back. Nobody
// loses an IPv4 subnet, or a packet that a restart alone would not cost.
func TestRollingChange(t *testing.T) {
	b := bed.Up(t, lab.Options{Hosts: 3, IPv6Underlay: underlay6})
	before := b.Hosts()
	ipv4 := func(t *testing.T) {
		t.Helper()
		for i := 1; i <= 3; i++ {
			for j := 1; j <= 3; j++ {
				if i != j {
					bed.Eventually(t, soon, func() error { return reach(t, b.ContainerEnd(i), b.ContainerEnd(j)) })
				}
			}
		}
	}
	ipv4(t)
	b.Etcdctl("put", bed.Prefix+"/config", configDual)

	t.Run("F8 a host of IPv4 takes the IPv4 half of a dual-stack lease", func(t *testing.T) {
		k := b.JoinDualKernel(t.Context(), netip.MustParsePrefix("172.30.200.0/24"), netip.MustParsePrefix("fd00:30:0:200::/64"))
		for n := 1; n <= 3; n++ {
			bed.Eventually(t, soon, func() error { return reach(t, b.ContainerEnd(n), k.IPv4.ContainerEnd()) })
			if s := b.Status(n); s.State != "ready" || s.IPv6 != nil || len(s.Rejected) != 0 {
				t.Errorf("h%d: got %+v, want it ready, with nothing left out", n, s)
			}
		}
	})

	for n := 1; n <= 3; n++ {
		t.Run(fmt.Sprintf("F11 h%d is restarted and keeps its IPv4 subnet", n), func(t *testing.T) {
			restart(t, b, n)
			h, was := b.Host(n), before[n-1]
			if h.Subnet != was.Subnet || h.MAC != was.MAC || !h.IPv6Subnet.IsValid() {
				t.Fatalf("got %+v, had %+v", h, was)
			}
			wantKey(t, b, h, true)
			ipv4(t)
			for i := 1; i < n; i++ {
				bed.Eventually(t, soon, func() error { return reach(t, b.ContainerEnd6(n), b.ContainerEnd6(i)) })
			}
		})
	}

	t.Run("F11 in reverse", func(t *testing.T) {
		b.Etcdctl("put", bed.Prefix+"/config", configV4)
		for n := 1; n <= 3; n++ {
			restart(t, b, n)
			h := b.Host(n)
			if h.Subnet != before[n-1].Subnet || h.IPv6Subnet.IsValid() {
				t.Errorf("got %+v, had %+v", h, before[n-1])
			}
			wantKey(t, b, h, false)
			ipv4(t)
		}
		if left := bed.Run(t, b.Node("h1"), "sh", "-c", "ip -6 route; ip link show flannel-v6.1 2>&1; true"); strings.Contains(left, "fd00:30::/48") || !strings.Contains(left, "does not exist") {
			t.Errorf("of IPv6 there is left\n%s", left)
		}
	})
}

// A host without an IPv6 address takes part with IPv4, says what to do, and gives
// no IPv6 subnet up.
func TestHostWithoutIPv6(t *testing.T) {
	b := bed.Up(t, lab.Options{Hosts: 2, IPv6Underlay: underlay6, IPv6Network: network6})
	was := b.Host(1)
	h1 := b.Node("h1")
	bed.Run(t, h1, "ip", "-6", "addr", "flush", "dev", "eth0")
	restart(t, b, 1)
	s := b.Status(1)
	const want = "the interface eth0 has no IPv6 address: give it one, which is taken as soon as it is there, or choose another with -iface and start vxtap again"
	if s.State != "ready" || s.IPv6 == nil || !strings.Contains(s.IPv6.Reason, want) || s.IPv6.Device != "" {
		t.Fatalf("got %s and IPv6 %+v, want it ready and %q", s.State, s.IPv6, want)
	}
	if log, err := os.ReadFile(was.Log); err != nil || strings.Count(string(log), want) != 1 {
		t.Errorf("the log says it %d times, %v, want once", strings.Count(string(log), want), err)
	}
	bed.Eventually(t, soon, func() error { return reach(t, b.ContainerEnd(1), b.ContainerEnd(2)) })
	wantKey(t, b, was, true)
	if text, err := os.ReadFile(was.RunDir + "/subnet.env"); err != nil || strings.Contains(string(text), "IPV6") || !strings.Contains(string(text), "FLANNEL_MTU=1450\n") {
		t.Errorf("got\n%s%v, want IPv4 alone", text, err)
	}

	bed.Run(t, h1, "ip", "-6", "addr", "add", was.IPv6VTEP.String()+"/64", "dev", "eth0")
	restart(t, b, 1)
	if h := b.Host(1); h.IPv6Subnet != was.IPv6Subnet || h.Subnet != was.Subnet {
		t.Errorf("got %+v, had %+v", h, was)
	}
	bed.Eventually(t, soon, func() error { return reach(t, b.ContainerEnd6(1), b.ContainerEnd6(2)) })
}

// Behind NAT the address that others reach is on no interface.
func TestPublicIPv6(t *testing.T) {
	b := bed.Up(t, lab.Options{Hosts: 1, IPv6Underlay: underlay6, IPv6Network: network6})
	h, err := b.Join(t.Context(), "-public-ipv6=2001:db8:99::1")
	if err != nil {
		t.Fatal(err)
	}
	vtep := netip.MustParseAddr("2001:db8:99::1")
	if s := b.Status(2); s.IPv6 == nil || s.IPv6.VTEP != vtep || s.IPv6.Address != h.IPv6VTEP {
		t.Errorf("got %+v, want %s in the lease, and %s bound", s.IPv6, vtep, h.IPv6VTEP)
	}
	bed.Eventually(t, soon, func() error {
		if p := b.Status(1).IPv6.Peers; len(p) != 1 || p[0].VTEP != vtep {
			return fmt.Errorf("h1 has the peers %+v", p)
		}
		return nil
	})
}

// The rules of both families are set, and what is excluded is of its family.
func TestMasquerade(t *testing.T) {
	b := bed.Up(t, lab.Options{Hosts: 1, IPv6Underlay: underlay6, IPv6Network: network6, Args: []string{"-ip-masq", "-masq-exclude=198.51.100.0/24,2001:db8:100::/48"}})
	h1 := b.Node("h1")
	v4, v6 := bed.Run(t, h1, "iptables-save"), bed.Run(t, h1, "ip6tables-save")
	for _, tt := range []struct{ rules, want, not string }{
		{v4, "-A FLANNEL-POSTRTG -s 172.30.0.0/16", "fd00:30"},
		{v4, "-d 198.51.100.0/24", "2001:db8"},
		{v6, "-A FLANNEL-POSTRTG -s fd00:30::/48", "172.30"},
		{v6, "-d 2001:db8:100::/48", "198.51.100"},
		{v6, "-A FLANNEL-FWD -s fd00:30::/48", "172.30"},
	} {
		if !strings.Contains(tt.rules, tt.want) || strings.Contains(tt.rules, tt.not) {
			t.Errorf("got\n%s\nwant %q and not %q", tt.rules, tt.want, tt.not)
		}
	}
}
