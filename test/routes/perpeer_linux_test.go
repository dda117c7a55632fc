// SPDX-License-Identifier: Apache-2.0

package routes

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vxtap/cmd/vxlab/lab"
	"vxtap/test/bed"
	"vxtap/test/traffic"
)

// entries are what the kernel of host n has for its peers, sorted.
func entries(t *testing.T, b *bed.Bed, n int) []string {
	t.Helper()
	out := bed.Run(t, b.Node(b.Host(n).Node), "sh", "-c", `
		ip route show dev flannel.1 2>&1
		ip neigh show dev flannel.1 nud permanent 2>&1
		true`)
	var all []string
	for line := range strings.Lines(out) {
		all = append(all, strings.Join(strings.Fields(line), " "))
	}
	slices.Sort(all)
	return all
}

// hasFlannels wants the entries that a flanneld on host n would set for peers, as
// ip prints them.
func hasFlannels(t *testing.T, b *bed.Bed, n int, peers ...int) error {
	t.Helper()
	var want []string
	for _, p := range peers {
		h := b.Host(p)
		want = append(want, fmt.Sprintf("%s via %s onlink", h.Subnet, h.Subnet.Addr()), fmt.Sprintf("%s lladdr %s PERMANENT", h.Subnet.Addr(), h.MAC))
	}
	slices.Sort(want)
	if got := entries(t, b, n); !slices.Equal(got, want) {
		return fmt.Errorf("h%d has\n%s\nwant\n%s", n, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	return nil
}

func TestPerPeerRoutes(t *testing.T) {
	b := bed.Up(t, lab.Options{Hosts: 2, Args: []string{"-route-mode=per-peer"}})
	h1, one, two := b.Node("h1"), b.ContainerEnd(1), b.ContainerEnd(2)
	bed.Eventually(t, time.Second, func() error { return hasFlannels(t, b, 1, 2) })

	t.Run("all traffic", func(t *testing.T) {
		allReach(t, b)
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		if err := traffic.BothWays(ctx, one, two, b.Host(1).MTU, 8<<20); err != nil {
			t.Error(err)
		}
		if err := traffic.BothWays(ctx, b.HostEnd(1), two, b.Host(1).MTU, 8<<20); err != nil {
			t.Error(err)
		}
	})

	t.Run("a subnet that nobody leases is unreachable", func(t *testing.T) {
		bed.Run(t, h1, "ip", "route", "del", "default")
		conn, err := one.Namespace.DialContext(t.Context(), "udp", "172.30.250.1:9")
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		wantErrors(t, conn)
		if _, err := conn.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		_ = conn.SetReadDeadline(time.Now().Add(2 * time.Second))
		if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, unix.ENETUNREACH) {
			t.Errorf("the container hears %v, want that the network is unreachable", err)
		}
		bed.Run(t, h1, "ip", "route", "add", "default", "via", "192.168.77.1")
	})

	t.Run("a peer comes and goes", func(t *testing.T) {
		k := b.JoinKernel(t.Context(), netip.MustParsePrefix("172.30.200.0/24"))
		bed.Eventually(t, time.Second, func() error { return reaches(t, one, k.ContainerEnd()) })
		b.Etcdctl("del", k.LeaseKey())
		bed.Eventually(t, time.Second, func() error { return hasFlannels(t, b, 1, 2) })
	})

	t.Run("whatever is deleted is back within a second", func(t *testing.T) {
		subnet := b.Host(2).Subnet
		for _, tt := range []struct{ name, do, said string }{
			{"the route", "ip route del " + subnet.String(), "the route to " + subnet.String()},
			{"the neighbour", "ip neigh del " + subnet.Addr().String() + " dev flannel.1", "the neighbour " + subnet.Addr().String()},
			{"the neighbour's MAC", "ip neigh replace " + subnet.Addr().String() + " dev flannel.1 lladdr 02:09:09:09:09:09 nud permanent", "the neighbour " + subnet.Addr().String()},
			{"all of it", "ip route flush dev flannel.1; ip neigh flush all nud permanent dev flannel.1", "the route to " + subnet.String()},
			{"the TAP down", "ip link set flannel.1 down", "the link state"},
			{"the device", "ip link del flannel.1", "starting afresh"},
		} {
			bed.Run(t, h1, "sh", "-c", tt.do)
			took := bed.Eventually(t, time.Second, func() error { return hasFlannels(t, b, 1, 2) })
			t.Logf("%s is back after %s", tt.name, took.Round(time.Millisecond))
			bed.Eventually(t, time.Second, func() error { return reaches(t, one, two) })
			if log, err := os.ReadFile(b.Host(1).Log); err != nil || !strings.Contains(string(log), tt.said) {
				t.Errorf("%s: the log does not say %q: %v", tt.name, tt.said, err)
			}
		}
	})

	// What comes back has a source that is not the peer's, which the host drops.
	t.Run("somebody's route by way of a peer", func(t *testing.T) {
		before := b.Status(2).In.Delivered
		bed.Run(t, h1, "ip", "route", "add", "198.51.100.0/24", "via", b.Host(2).Subnet.Addr().String(), "dev", "flannel.1", "onlink")
		conn, err := one.Namespace.DialContext(t.Context(), "udp", "198.51.100.7:9")
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := conn.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		bed.Eventually(t, time.Second, func() error {
			if got := b.Status(2).In.Delivered - before; got == 0 {
				return errors.New("h2 has not got it")
			}
			return nil
		})
	})
}

// wantErrors has conn tell of what ICMP says is no more than a hint.
func wantErrors(t *testing.T, conn net.Conn) {
	t.Helper()
	raw, err := conn.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var set error
	if err := raw.Control(func(fd uintptr) { set = unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_RECVERR, 1) }); err != nil || set != nil {
		t.Fatal(err, set)
	}
}
