// SPDX-License-Identifier: Apache-2.0

package dualstack

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vxtap/cmd/vxlab/lab"
	"vxtap/cmd/vxlab/netns"
	"vxtap/test/bed"
)

// What keeps containers from the IPv6 overlay, and the host from its IPv6 address,
// while the tunnel is well: the operator is told, with the command that mends it.
func TestHostThatDoesNotForwardIPv6IsNamed(t *testing.T) {
	b := bed.Up(t, lab.Options{Hosts: 2, IPv6Underlay: underlay6, IPv6Network: network6})
	h1 := b.Node("h1")
	from, to := ends(b, 1), ends(b, 2)
	for f := range from {
		bed.Eventually(t, soon, func() error { return reach(t, from[f], to[f]) })
	}
	if s := b.Status(1); len(s.Warnings) != 0 {
		t.Errorf("warnings of a host that is well: %q", s.Warnings)
	}

	t.Run("forwarding is off", func(t *testing.T) {
		bed.Run(t, h1, "sysctl", "-qw", "net.ipv6.conf.all.forwarding=0")
		bed.Eventually(t, soon, func() error {
			if reach(t, from[1], to[1]) == nil {
				return fmt.Errorf("IPv6 goes on without forwarding")
			}
			return nil
		})
		if err := reach(t, from[0], to[0]); err != nil {
			t.Errorf("IPv4 went with it: %v", err)
		}
		mendAsTold(t, b, "net.ipv6.conf.all.forwarding=0: containers on this host are cut off from the IPv6 overlay")
		bed.Eventually(t, soon, func() error { return reach(t, from[1], to[1]) })
	})

	// The kernel takes the route away as soon as the host forwards.
	t.Run("the default route is of a router, which is not heard any more", func(t *testing.T) {
		hasRoute := func() error {
			if got := bed.Run(t, h1, "ip", "-6", "route", "show", "default", "proto", "ra"); got == "" {
				return errors.New("no default route of a router")
			}
			return nil
		}
		bed.Run(t, h1, "sysctl", "-qw", "net.ipv6.conf.all.forwarding=0")
		advertise(t, b.Node("net"), "br0")
		bed.Eventually(t, soon, hasRoute)
		bed.Run(t, h1, "sysctl", "-qw", "net.ipv6.conf.all.forwarding=1")
		mendAsTold(t, b, "net/ipv6/conf/eth0/accept_ra=1: since this host forwards IPv6 it ignores router advertisements")
		advertise(t, b.Node("net"), "br0")
		bed.Eventually(t, soon, hasRoute)
		bed.Eventually(t, soon, func() error { return reach(t, from[1], to[1]) })
		if s := b.Status(1); len(s.Warnings) != 0 || s.IPv6.VTEP != b.Host(1).IPv6VTEP {
			t.Errorf("got warnings %q and %s, want none, and %s as before", s.Warnings, s.IPv6.VTEP, b.Host(1).IPv6VTEP)
		}
	})
}

// advertise sends what a router says once a while (RFC 4861, section 4.2): that it is
// one, and the prefix 2001:db8:99::/64 for addresses (section 4.6.2).
func advertise(t *testing.T, ns *netns.Namespace, device string) {
	t.Helper()
	i, err := ns.Interface(device)
	if err != nil {
		t.Fatal(err)
	}
	prefix := netip.MustParseAddr("2001:db8:99::").As16()
	text := []byte{134, 0, 0, 0, 64, 0, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0} // for 1800 s; the kernel sums up
	text = append(text, 3, 4, 64, 0xc0, 0, 0, 0x0e, 0x10, 0, 0, 0x07, 0x08, 0, 0, 0, 0)
	text = append(text, prefix[:]...)
	err = ns.Do(func() error {
		fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMPV6)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS, 255); err != nil {
			return err
		}
		return unix.Sendto(fd, text, 0, &unix.SockaddrInet6{ZoneId: uint32(i.Index), Addr: netip.MustParseAddr("ff02::1").As16()})
	})
	if err != nil {
		t.Fatal(err)
	}
}

// mendAsTold wants one warning that begins with what, the same in the log and as a
// metric, and runs the command at its end. Then it wants none.
func mendAsTold(t *testing.T, b *bed.Bed, what string) {
	t.Helper()
	var s bed.Status
	bed.Eventually(t, soon, func() error {
		if s = b.Status(1); s.State != "ready" || len(s.Warnings) != 1 || !strings.HasPrefix(s.Warnings[0], what) {
			return fmt.Errorf("state %q, warnings %q, want ready and %q", s.State, s.Warnings, what)
		}
		return nil
	})
	metric := func(want string) {
		bed.Eventually(t, soon, func() error {
			if got := bed.Run(t, b.Node("h1"), "sh", "-c", "curl -s http://127.0.0.1:8473/metrics | grep '^vxtap_warnings '"); got != want+"\n" {
				return fmt.Errorf("got metric %q, want %q", got, want)
			}
			return nil
		})
	}
	metric("vxtap_warnings 1")
	bed.Eventually(t, 10*time.Second, func() error {
		if text, err := os.ReadFile(b.Host(1).Log); err != nil || !strings.Contains(string(text), what) {
			return fmt.Errorf("the log does not say it, error %w", err)
		}
		return nil
	})
	command := s.Warnings[0][strings.LastIndex(s.Warnings[0], ": ")+2:]
	bed.Run(t, b.Node("h1"), "sh", "-c", command)
	if s := b.Status(1); len(s.Warnings) != 0 {
		t.Errorf("warnings after %q: %q", command, s.Warnings)
	}
	metric("vxtap_warnings 0")
}
