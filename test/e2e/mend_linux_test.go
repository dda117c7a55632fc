// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"vxtap/cmd/vxlab/lab"
	"vxtap/test/bed"
	"vxtap/test/traffic"
)

// Whatever somebody deletes of what the overlay needs on a host is back within a
// second, and traffic with it. What others have there stays.
func TestHostIsMended(t *testing.T) {
	tests := []struct{ name, do, said string }{
		{"the route is deleted", "ip route del 172.30.0.0/16", "the route"},
		{"the neighbour is deleted", "ip neigh del 169.254.84.72 dev flannel.1", "the gateway's neighbour"},
		{"the address is deleted", "ip addr del $(ip -4 -o addr show flannel.1 | awk '{print $4}') dev flannel.1", "the address"},
		{"the TAP is taken down", "ip link set flannel.1 down", "the link state"},
		{"the TAP has another MAC", "ip link set flannel.1 address 02:99:99:99:99:99", "the MAC"},
		{"the TAP has another MTU", "ip link set flannel.1 mtu 1300", "the MTU"},
		{"the TAP is renamed", "ip link set flannel.1 name was7", "the name"},
		{"the TAP is taken down and renamed", "ip link set flannel.1 down && ip link set flannel.1 name was7", "the name"},
		{"the TAP is flushed", "ip addr flush dev flannel.1; ip neigh flush all nud permanent dev flannel.1; ip route flush dev flannel.1", "the address"},
		{"the TAP is deleted", "ip link del flannel.1", "starting afresh"},
	}
	b := bed.Up(t, lab.Options{Hosts: 2})
	one, two := b.ContainerEnd(1), b.ContainerEnd(2)
	bed.Eventually(t, 2*time.Second, func() error { return reaches(t, one, two) })
	h1 := b.Node("h1")
	bed.Run(t, h1, "ip", "route", "add", "198.51.100.0/24", "via", b.Host(2).VTEP.String())
	foreign := func() string {
		return bed.Run(t, h1, "sh", "-c", "ip route show 198.51.100.0/24; ip -4 addr show eth0 | grep inet; ip route show dev cni0")
	}
	before, needs := foreign(), overlayState(t, b)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			bed.Run(t, h1, "sh", "-c", tt.do)
			took := bed.Eventually(t, time.Second, func() error {
				if now := overlayState(t, b); now != needs {
					return fmt.Errorf("the host has\n%s\nwant\n%s", now, needs)
				}
				return nil
			})
			t.Logf("back after %s", took.Round(time.Millisecond))
			bed.Eventually(t, time.Second, func() error { return reaches(t, one, two) })
			if log, err := os.ReadFile(b.Host(1).Log); err != nil || !strings.Contains(string(log), tt.said) {
				t.Errorf("the log does not say %q: %v", tt.said, err)
			}
			if now := foreign(); now != before {
				t.Errorf("what others have on the host was\n%s\nand is\n%s", before, now)
			}
		})
	}
	if s := b.Status(1); s.State != "ready" {
		t.Errorf("state %q, want ready", s.State)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := traffic.BothWays(ctx, one, two, 1450, 8<<20); err != nil {
		t.Error(err)
	}
}

// overlayState is what the overlay needs on host 1.
func overlayState(t *testing.T, b *bed.Bed) string {
	t.Helper()
	return bed.Run(t, b.Node("h1"), "sh", "-c", `
		ip -o link show flannel.1 2>&1 | grep -oE 'UP|mtu [0-9]+|link/ether [0-9a-f:]+'
		ip -4 -o addr show flannel.1 2>&1 | awk '{print $4}'
		ip route show 172.30.0.0/16
		ip neigh show dev flannel.1 2>&1 | grep PERMANENT
		true`)
}
