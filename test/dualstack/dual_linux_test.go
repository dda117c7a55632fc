// SPDX-License-Identifier: Apache-2.0

// Package dualstack meets networks of both address families as an operator does:
// whole daemons in namespaces with an IPv6 underlay, an etcd, and a kernel VXLAN
// host beside them.
package dualstack

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"vxtap/cmd/vxlab/lab"
	"vxtap/test/bed"
	"vxtap/test/traffic"
)

func TestMain(m *testing.M) { os.Exit(bed.Main(m)) }

var (
	underlay6 = netip.MustParsePrefix("2001:db8:77::/64")
	network6  = netip.MustParsePrefix("fd00:30::/48")
)

// soon is for a machine that is busy, and for the kernel, which looks a second for
// duplicates of each new IPv6 address of a bridge.
const soon = 5 * time.Second

// reach returns why the ends do not reach each other, in one family.
func reach(t *testing.T, from, to traffic.End) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	return traffic.Datagrams(ctx, from, to, 100)
}

// bulk sends as much as no single super-frame has, both ways at once.
func bulk(t *testing.T, from, to traffic.End, mtu int) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	return traffic.BothWays(ctx, from, to, mtu, 4<<20)
}

// ends are a container's, of IPv4 and of IPv6.
func ends(b *bed.Bed, n int) [2]traffic.End {
	return [2]traffic.End{b.ContainerEnd(n), b.ContainerEnd6(n)}
}

// bothFamilies is a lab of two hosts of both families and a kernel host.
type bothFamilies struct {
	*bed.Bed
	kernel *bed.DualKernel
	all    [3][2]traffic.End // containers, by host, of IPv4 and of IPv6
}

func TestDualStack(t *testing.T) {
	b := &bothFamilies{Bed: bed.Up(t, lab.Options{Hosts: 2, IPv6Underlay: underlay6, IPv6Network: network6})}
	b.kernel = b.JoinDualKernel(t.Context(), netip.MustParsePrefix("172.30.200.0/24"), netip.MustParsePrefix("fd00:30:0:200::/64"))
	b.all = [3][2]traffic.End{ends(b.Bed, 1), ends(b.Bed, 2), {b.kernel.IPv4.ContainerEnd(), b.kernel.IPv6.ContainerEnd()}}
	for _, tt := range []struct {
		name string
		f    func(*testing.T)
	}{
		{"every container reaches every other in both families", b.everyPair},
		{"bulk, and every size up to the MTU", b.bulks},
		{"the lease is flannel's to the byte", b.leaseIsFlannels},
		{"F13 the MTU is the smaller one, in the subnet file too", b.oneMTU},
		{"status, metrics and lease show have both families", b.bothAreShown},
		{"a restart keeps subnets and MACs of both", b.restartKeeps},
		{"started without etcd, it forwards both families by what it knew", b.withoutEtcd},
		{"a hostile IPv6 half costs that half and is named", b.hostileHalf},
		{"what is deleted of the IPv6 side is back", b.mended},
		{"another IPv6 address is followed", b.addressFollowed},
	} {
		t.Run(tt.name, tt.f)
	}
}

func (b *bothFamilies) everyPair(t *testing.T) {
	t.Helper()
	for i, from := range b.all {
		for j, to := range b.all {
			for f := range from {
				if i != j {
					bed.Eventually(t, soon, func() error { return reach(t, from[f], to[f]) })
				}
			}
		}
	}
}

func (b *bothFamilies) bulks(t *testing.T) {
	t.Helper()
	for _, to := range b.all[1:] {
		for f := range to {
			if err := bulk(t, b.all[0][f], to[f], 1430); err != nil {
				t.Error(err)
			}
		}
	}
}

func (b *bothFamilies) leaseIsFlannels(t *testing.T) {
	t.Helper()
	h, s := b.Host(1), b.Status(1)
	key := fmt.Sprintf("%s/subnets/%s&%s", bed.Prefix, dashed(h.Subnet), dashed(h.IPv6Subnet))
	want := fmt.Sprintf(`{"PublicIP":"%s","PublicIPv6":"%s","BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"%s"},"BackendV6Data":{"VNI":1,"VtepMAC":"%s"}}`,
		h.VTEP, h.IPv6VTEP, s.MAC, s.IPv6.MAC)
	if got := strings.TrimSpace(b.Etcdctl("get", "--print-value-only", key)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func (b *bothFamilies) oneMTU(t *testing.T) {
	t.Helper()
	h := b.Host(1)
	text, err := os.ReadFile(h.RunDir + "/subnet.env")
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("FLANNEL_NETWORK=172.30.0.0/16\nFLANNEL_SUBNET=%s/24\nFLANNEL_IPV6_NETWORK=fd00:30::/48\nFLANNEL_IPV6_SUBNET=%s/64\nFLANNEL_MTU=1430\nFLANNEL_IPMASQ=false\n",
		h.Subnet.Addr().Next(), h.IPv6Subnet.Addr().Next())
	if string(text) != want {
		t.Errorf("got\n%s\nwant\n%s", text, want)
	}
	links := bed.Run(t, b.Node("h1"), "sh", "-c", "ip -o link show flannel.1; ip -o link show flannel-v6.1")
	if !strings.Contains(links, "mtu 1450") || !strings.Contains(links, "mtu 1430") {
		t.Errorf("got %s, want 1450 for IPv4 and 1430 for IPv6", links)
	}
}

func (b *bothFamilies) bothAreShown(t *testing.T) {
	t.Helper()
	h, s := b.Host(1), b.Status(1)
	six := s.IPv6
	if six == nil || six.Device != "flannel-v6.1" || six.Subnet != h.IPv6Subnet || six.VTEP != h.IPv6VTEP || six.MTU != 1430 || len(six.Peers) != 2 || len(s.Peers) != 2 {
		t.Fatalf("got %+v", s)
	}
	if six.In.Delivered == 0 || six.Out.Delivered == 0 || six.TXPath.InUse != "udp" || !strings.Contains(six.TXPath.Reason, "IPv4 underlay only") {
		t.Errorf("got %+v", six)
	}
	metrics := bed.Run(t, b.Node("h1"), "curl", "-s", "http://127.0.0.1:8473/metrics")
	for _, want := range []string{"\nvxtap_peers 2\n", "\nvxtap_ipv6_peers 2\n", `vxtap_ipv6_frames_delivered_total{direction="in"}`} {
		if !strings.Contains(metrics, want) {
			t.Errorf("the metrics do not have %q", want)
		}
	}
	show := bed.Run(t, b.Node("h1"), bed.Binary(t, "vxtap"), "lease", "show", "-etcd-endpoints="+b.EtcdURL(), "-etcd-prefix="+bed.Prefix)
	if want := fmt.Sprintf("%s, %s", h.Subnet, h.IPv6Subnet); !strings.Contains(show, want) || strings.Contains(show, "LEFT OUT") {
		t.Errorf("got\n%s\nwant %q and nothing left out", show, want)
	}
	table := bed.Run(t, b.Node("h1"), bed.Binary(t, "vxtap"), "status", "-run-dir="+h.RunDir)
	if !strings.Contains(table, "flannel-v6.1:") || !strings.Contains(table, b.Host(2).IPv6Subnet.String()) {
		t.Errorf("got\n%s", table)
	}
}

func (b *bothFamilies) restartKeeps(t *testing.T) {
	t.Helper()
	before := b.Status(1)
	if err := b.KillHost(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if err := b.StartHost(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	after := b.Status(1)
	if after.Subnet != before.Subnet || after.MAC != before.MAC || after.IPv6.Subnet != before.IPv6.Subnet || after.IPv6.MAC != before.IPv6.MAC {
		t.Errorf("got %+v, had %+v", after, before)
	}
	for f := range b.all[0] {
		bed.Eventually(t, soon, func() error { return reach(t, b.all[0][f], b.all[2][f]) })
	}
}

func (b *bothFamilies) withoutEtcd(t *testing.T) {
	t.Helper()
	if err := b.StopHost(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if err := b.StopEtcd(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := b.StartHost(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	for f := range b.all[0] {
		bed.Eventually(t, soon, func() error { return reach(t, b.all[0][f], b.all[1][f]) })
	}
	if err := b.StartEtcd(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func (b *bothFamilies) hostileHalf(t *testing.T) {
	t.Helper()
	bad := strings.Replace(b.kernel.LeaseValue(), b.kernel.IPv6.MAC.String(), "01:00:5e:00:00:01", 1)
	b.Etcdctl("put", b.kernel.LeaseKey(), bad)
	bed.Eventually(t, 5*time.Second, func() error {
		s := b.Status(1)
		if len(s.IPv6.Peers) != 1 || len(s.Peers) != 2 || len(s.Rejected) != 1 || !strings.Contains(bed.Prefix+"/"+s.Rejected[0].Key, b.kernel.LeaseKey()) {
			return fmt.Errorf("got IPv6 peers %v, peers %v, rejected %v", s.IPv6.Peers, s.Peers, s.Rejected)
		}
		return nil
	})
	if err := reach(t, b.all[0][0], b.all[2][0]); err != nil {
		t.Errorf("IPv4 went with it: %v", err)
	}
	b.Etcdctl("put", b.kernel.LeaseKey(), b.kernel.LeaseValue())
	bed.Eventually(t, 5*time.Second, func() error { return reach(t, b.all[0][1], b.all[2][1]) })
}

func (b *bothFamilies) mended(t *testing.T) {
	t.Helper()
	h1 := b.Node("h1")
	bed.Run(t, h1, "ip", "-6", "route", "del", network6.String())
	bed.Eventually(t, soon, func() error { return reach(t, b.all[0][1], b.all[1][1]) })
	bed.Run(t, h1, "ip", "link", "del", "flannel-v6.1")
	for f := range b.all[0] {
		bed.Eventually(t, 5*time.Second, func() error { return reach(t, b.all[0][f], b.all[1][f]) })
	}
}

func (b *bothFamilies) addressFollowed(t *testing.T) {
	t.Helper()
	h, next := b.Host(1), netip.MustParseAddr("2001:db8:77::1234")
	bed.Run(t, b.Node("h1"), "sh", "-c", fmt.Sprintf("ip -6 addr add %s/64 dev eth0 nodad; ip -6 addr del %s/64 dev eth0", next, h.IPv6VTEP))
	bed.Eventually(t, 10*time.Second, func() error {
		for _, p := range b.Status(2).IPv6.Peers {
			if p.Subnet == h.IPv6Subnet && p.VTEP == next {
				return nil
			}
		}
		return fmt.Errorf("h2 has the peers %+v", b.Status(2).IPv6.Peers)
	})
	for f := range b.all[0] {
		bed.Eventually(t, soon, func() error { return reach(t, b.all[0][f], b.all[1][f]) })
	}
	if s := b.Status(1); s.IPv6.VTEP != next || s.IPv6.Address != next || s.IPv6.Subnet != h.IPv6Subnet {
		t.Errorf("got %+v, want %s in the lease and bound, and the subnet of before", s.IPv6, next)
	}
	said := fmt.Sprintf(`msg="lease acquired again" device=flannel.1 subnet=%s,%s publicip=%s,%s`, h.Subnet, h.IPv6Subnet, h.VTEP, next)
	if log, err := os.ReadFile(h.Log); err != nil || !strings.Contains(string(log), said) {
		t.Errorf("the log does not have %q, %v", said, err)
	}
}

// dashed is a subnet as it stands in a key.
func dashed(p netip.Prefix) string { return strings.ReplaceAll(p.String(), "/", "-") }
