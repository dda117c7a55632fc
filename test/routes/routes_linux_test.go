// SPDX-License-Identifier: Apache-2.0

// Package routes has whole daemons keep the kernel's routes to single peers:
// DirectRouting, and -route-mode=per-peer.
package routes

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"vxtap/cmd/vxlab/lab"
	"vxtap/test/bed"
	"vxtap/test/traffic"
)

func TestMain(m *testing.M) { os.Exit(bed.Main(m)) }

var network = netip.MustParsePrefix("172.30.0.0/16")

func reaches(t *testing.T, from, to traffic.End) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	return traffic.Datagrams(ctx, from, to, 100)
}

// allReach fails the test unless every container of b reaches every other.
func allReach(t *testing.T, b *bed.Bed) {
	t.Helper()
	n := len(b.Hosts())
	for i := 1; i <= n; i++ {
		for j := 1; j <= n; j++ {
			if i != j {
				bed.Eventually(t, 2*time.Second, func() error { return reaches(t, b.ContainerEnd(i), b.ContainerEnd(j)) })
			}
		}
	}
}

// pings must all be answered: 10 of them.
func pings(t *testing.T, from, to traffic.End) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := traffic.Ping(ctx, from, to, 10); err != nil {
		t.Error(err)
	}
}

// setConfig writes the network config, between the end of the daemons of hosts and
// their next start.
func setConfig(t *testing.T, b *bed.Bed, directRouting bool, hosts ...int) {
	t.Helper()
	for _, n := range hosts {
		if err := b.StopHost(t.Context(), n); err != nil {
			t.Fatal(err)
		}
	}
	b.Etcdctl("put", bed.Prefix+"/config", fmt.Sprintf(`{"Network": %q, "SubnetLen": 24, "Backend": {"Type": "vxlan", "DirectRouting": %v}}`, network, directRouting))
	for _, n := range hosts {
		if err := b.StartHost(t.Context(), n); err != nil {
			t.Fatal(err)
		}
	}
}

// behindRouter moves host n, whose daemon is stopped, to a link of its own, with
// the underlay's first node as its router.
func behindRouter(t *testing.T, b *bed.Bed, n int) {
	t.Helper()
	h := b.Host(n)
	b.Etcdctl("del", bed.Prefix+"/subnets/"+strings.ReplaceAll(h.Subnet.String(), "/", "-"))
	bed.Run(t, b.Node("net"), "sh", "-ec", `
		sysctl -qw net.ipv4.ip_forward=1
		ip link set `+h.Node+` nomaster
		ip addr add 192.168.78.1/24 dev `+h.Node)
	// The lab asks whether the daemon is ready at the host's first address.
	bed.Run(t, b.Node(h.Node), "sh", "-ec", `
		ip addr flush dev eth0
		ip addr add 192.168.78.13/24 dev eth0
		ip addr add `+h.VTEP.String()+`/32 dev lo
		ip link set lo up
		ip route add default via 192.168.78.1`)
}

// directPeers are the peers that host n reaches directly, sorted.
func directPeers(s bed.Status) []netip.Prefix {
	var all []netip.Prefix
	for _, p := range s.Peers {
		if p.Direct {
			all = append(all, p.Subnet)
		}
	}
	slices.SortFunc(all, netip.Prefix.Compare)
	return all
}

func isDirectTo(t *testing.T, b *bed.Bed, n int, peers ...int) error {
	t.Helper()
	var want []netip.Prefix
	for _, p := range peers {
		want = append(want, b.Host(p).Subnet)
	}
	slices.SortFunc(want, netip.Prefix.Compare)
	s, err := b.TryStatus(n)
	if err != nil {
		return err
	}
	routes := strings.Count(bed.Run(t, b.Node(b.Host(n).Node), "ip", "route", "show", "proto", "84"), " via ")
	if got := directPeers(s); !slices.Equal(got, want) || routes != len(want) {
		return fmt.Errorf("h%d reaches directly %v, by %d routes, want %v", n, got, routes, want)
	}
	return nil
}

// cleanup runs vxtap cleanup on host 1.
func cleanup(t *testing.T, b *bed.Bed) string {
	t.Helper()
	return bed.Run(t, b.Node("h1"), bed.Binary(t, "vxtap"), "cleanup", "-run-dir", b.Host(1).RunDir)
}

// directBed has two hosts on a link and a third behind a router.
func directBed(t *testing.T, args ...string) *bed.Bed {
	t.Helper()
	b := bed.Up(t, lab.Options{Hosts: 3, Args: args})
	if err := b.StopHost(t.Context(), 3); err != nil {
		t.Fatal(err)
	}
	behindRouter(t, b, 3)
	if err := b.StartHost(t.Context(), 3); err != nil {
		t.Fatal(err)
	}
	setConfig(t, b, true, 1, 2, 3)
	return b
}

func TestDirectRouting(t *testing.T) {
	for _, mode := range []string{"aggregate", "per-peer"} {
		t.Run(mode, func(t *testing.T) { testDirectRouting(t, mode) })
	}
}

func testDirectRouting(t *testing.T, mode string) {
	t.Helper()
	b := directBed(t, "-route-mode="+mode)
	h1 := b.Node("h1")
	allReach(t, b)
	bed.Eventually(t, time.Second, func() error { return isDirectTo(t, b, 1, 2) })
	bed.Eventually(t, time.Second, func() error { return isDirectTo(t, b, 2, 1) })
	bed.Eventually(t, time.Second, func() error { return isDirectTo(t, b, 3) })
	one, two, three := b.ContainerEnd(1), b.ContainerEnd(2), b.ContainerEnd(3)
	look := watch(t, h1, network)

	t.Run("on a link packets are native, behind a router tunnelled", func(t *testing.T) {
		look()
		pings(t, one, two)
		if s := look(); s.native != 20 || s.tunnelled != 0 {
			t.Errorf("between hosts on a link: %+v, want 20 native", s)
		}
		pings(t, one, three)
		if s := look(); s.native != 0 || s.tunnelled != 20 {
			t.Errorf("to a host behind a router: %+v, want 20 tunnelled", s)
		}
	})

	if mode == "aggregate" {
		t.Run("what the kernel gives to the TAP all the same is tunnelled", func(t *testing.T) {
			to := two.Addr.String() + "/32"
			bed.Run(t, h1, "ip", "route", "add", to, "via", "169.254.84.72", "dev", "flannel.1", "onlink")
			look()
			pings(t, one, two)
			if s := look(); s.native != 10 || s.tunnelled != 10 {
				t.Errorf("got %+v, want 10 there by tunnel and 10 back directly", s)
			}
			bed.Run(t, h1, "ip", "route", "del", to)
		})
	}

	via := func(args ...string) { bed.Run(t, h1, "ip", append([]string{"route"}, args...)...) }
	t.Run("a peer that is behind a router now is tunnelled within a second, and both ways are taken", func(t *testing.T) {
		via("add", b.Host(2).VTEP.String()+"/32", "via", "192.168.77.1")
		took := bed.Eventually(t, time.Second, func() error { return isDirectTo(t, b, 1) })
		t.Logf("after %s", took.Round(time.Millisecond))
		look()
		pings(t, one, two) // there by tunnel, back directly
		if s := look(); s.native != 10 || s.tunnelled != 10 {
			t.Errorf("got %+v, want 10 by each way", s)
		}
		via("del", b.Host(2).VTEP.String()+"/32", "via", "192.168.77.1")
		took = bed.Eventually(t, time.Second, func() error { return isDirectTo(t, b, 1, 2) })
		t.Logf("back after %s", took.Round(time.Millisecond))
	})

	t.Run("a link that goes and comes back is followed", func(t *testing.T) {
		bed.Run(t, h1, "ip", "link", "set", "eth0", "down")
		bed.Eventually(t, time.Second, func() error { return isDirectTo(t, b, 1) })
		bed.Run(t, h1, "sh", "-ec", "ip link set eth0 up; ip route add default via 192.168.77.1")
		bed.Eventually(t, time.Second, func() error { return isDirectTo(t, b, 1, 2) })
		bed.Eventually(t, 5*time.Second, func() error { return reaches(t, one, two) })
	})

	t.Run("a route that is deleted is back within a second", func(t *testing.T) {
		via("del", b.Host(2).Subnet.String())
		bed.Eventually(t, time.Second, func() error { return isDirectTo(t, b, 1, 2) })
	})

	t.Run("somebody else's route stays, and is told of", func(t *testing.T) {
		via("replace", b.Host(2).Subnet.String(), "via", "192.168.77.1", "proto", "static")
		bed.Eventually(t, time.Second, func() error {
			s := b.Status(1)
			if len(directPeers(s)) != 0 || len(s.Warnings) != 1 || !strings.Contains(s.Warnings[0], "somebody else's route leads "+b.Host(2).Subnet.String()) {
				return fmt.Errorf("direct %v, warnings %q", directPeers(s), s.Warnings)
			}
			return nil
		})
		via("del", b.Host(2).Subnet.String(), "via", "192.168.77.1", "proto", "static")
		bed.Eventually(t, time.Second, func() error { return isDirectTo(t, b, 1, 2) })
	})

	t.Run("a strict filter is told of", func(t *testing.T) {
		bed.Run(t, h1, "sysctl", "-qw", "net/ipv4/conf/eth0/rp_filter=1")
		if s := b.Status(1); len(s.Warnings) != 1 || !strings.HasSuffix(s.Warnings[0], "sysctl -w net/ipv4/conf/eth0/rp_filter=2") {
			t.Errorf("warnings %q", s.Warnings)
		}
		bed.Run(t, h1, "sysctl", "-qw", "net/ipv4/conf/eth0/rp_filter=0")
	})

	testDirectEnds(t, b)
}

// testDirectEnds stops daemons of a bed where h1 and h2 are on a link.
func testDirectEnds(t *testing.T, b *bed.Bed) {
	t.Helper()
	h1, one, two := b.Node("h1"), b.ContainerEnd(1), b.ContainerEnd(2)
	t.Run("without the daemons direct peers go on", func(t *testing.T) {
		if err := b.StopHost(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		pings(t, one, two)
		own := b.Host(1).Subnet.String()
		bed.Run(t, h1, "sh", "-ec", "ip route del "+own+"; ip route add "+own+" via "+b.Host(2).VTEP.String()+" proto 84; ip route append "+own+" dev cni0")
		if err := b.StartHost(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		if got := bed.Run(t, h1, "ip", "route", "show", own, "proto", "84"); got != "" {
			t.Errorf("its own subnet goes to a peer: %s", got)
		}
		bed.Eventually(t, 2*time.Second, func() error { return isDirectTo(t, b, 1, 2) })
		bed.Eventually(t, 2*time.Second, func() error { return reaches(t, two, one) })
	})

	t.Run("switched off and on while the daemons run", func(t *testing.T) {
		setConfig(t, b, false)
		bed.Eventually(t, 2*time.Second, func() error { return isDirectTo(t, b, 1) })
		bed.Eventually(t, 2*time.Second, func() error { return reaches(t, one, two) })
		setConfig(t, b, true)
		bed.Eventually(t, 2*time.Second, func() error { return isDirectTo(t, b, 1, 2) })
		bed.Eventually(t, 2*time.Second, func() error { return reaches(t, one, two) })
	})

	t.Run("switched off it leaves nothing", func(t *testing.T) {
		setConfig(t, b, false, 1, 2, 3)
		bed.Eventually(t, 2*time.Second, func() error { return isDirectTo(t, b, 1) })
		bed.Eventually(t, 2*time.Second, func() error { return isDirectTo(t, b, 2) })
		allReach(t, b)
	})

	t.Run("cleanup removes what a stopped daemon left", func(t *testing.T) {
		setConfig(t, b, true, 1, 2, 3)
		bed.Eventually(t, 2*time.Second, func() error { return isDirectTo(t, b, 1, 2) })
		if err := b.KillHost(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		want := fmt.Sprintf("removed route %s via %s\n", b.Host(2).Subnet, b.Host(2).VTEP)
		if out := cleanup(t, b); !strings.Contains(out, want) {
			t.Errorf("got %q, want %q", out, want)
		}
		if left := bed.Run(t, h1, "ip", "route", "show", "proto", "84"); left != "" {
			t.Errorf("left: %s", left)
		}
	})
}
