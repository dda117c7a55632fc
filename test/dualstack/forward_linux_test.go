// SPDX-License-Identifier: Apache-2.0

package dualstack

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"vxtap/cmd/vxlab/lab"
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

	t.Run("the default route is of a router, which is not heard", func(t *testing.T) {
		bed.Run(t, h1, "ip", "-6", "route", "add", "default", "via", underlay6.Addr().Next().String(), "dev", "eth0", "proto", "ra")
		mendAsTold(t, b, "net/ipv6/conf/eth0/accept_ra=1: since this host forwards IPv6 it ignores router advertisements")
		if err := reach(t, from[1], to[1]); err != nil {
			t.Error(err)
		}
	})
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
