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
	"vxtap/test/traffic"
)

// A host that gets its first IPv6 address while it runs has both families with the
// same subnets, MAC and process, and IPv4 is away for a moment only. One whose
// IPv6 side cannot be opened goes on with IPv4.
func TestFirstIPv6AddressComesLate(t *testing.T) {
	for _, tt := range []struct {
		name    string
		inItWay []string // what keeps the IPv6 side from being opened
		gains   bool
	}{
		{"nothing is in the way", nil, true},
		{"somebody has the device", []string{"link", "add", "flannel-v6.1", "type", "bridge"}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := bed.Up(t, lab.Options{Hosts: 2, IPv6Underlay: underlay6, IPv6Network: network6})
			was, h1 := b.Host(1), b.Node("h1")
			bed.Run(t, h1, "ip", "-6", "addr", "flush", "dev", "eth0")
			restart(t, b, 1)
			before := b.Status(1)
			if before.IPv6 == nil || before.IPv6.Device != "" {
				t.Fatalf("got IPv6 %+v, want none", before.IPv6)
			}
			if tt.inItWay != nil {
				bed.Run(t, h1, "ip", tt.inItWay...)
			}
			bed.Eventually(t, soon, func() error { return reach(t, b.ContainerEnd(1), b.ContainerEnd(2)) })
			bed.Run(t, h1, "ip", "-6", "addr", "add", was.IPv6VTEP.String()+"/64", "dev", "eth0")

			want := "starting afresh with both families"
			if !tt.gains {
				want = "the host's IPv6 address cannot be used, going on with IPv4"
			}
			bed.Eventually(t, 10*time.Second, func() error {
				if log, err := os.ReadFile(was.Log); err != nil || !strings.Contains(string(log), want) {
					return fmt.Errorf("the log does not say %q, %w", want, err)
				}
				return nil
			})
			took := bed.Eventually(t, soon, func() error { return reach(t, b.ContainerEnd(1), b.ContainerEnd(2)) })
			t.Logf("IPv4 again %s after it was said", took.Round(time.Millisecond))
			if tt.gains {
				// The container has no IPv6 before it is made anew; the host has.
				own := traffic.End{Namespace: h1, Addr: was.IPv6Subnet.Addr()}
				bed.Eventually(t, soon, func() error { return reach(t, own, b.ContainerEnd6(2)) })
			}
			s := b.Status(1)
			if s.State != "ready" || s.Subnet != before.Subnet || s.MAC != before.MAC || (s.IPv6.Device != "") != tt.gains {
				t.Errorf("got %s, %s, %s, IPv6 %+v; had %s, %s", s.State, s.Subnet, s.MAC, s.IPv6, before.Subnet, before.MAC)
			}
			if log, err := os.ReadFile(was.Log); err != nil || strings.Count(string(log), `msg="vxtap starts"`) != 2 {
				t.Errorf("the process is another one, %v", err)
			}
			if tt.gains && s.IPv6.Subnet != was.IPv6Subnet || !tt.gains && !strings.Contains(s.IPv6.Reason, was.IPv6VTEP.String()+" of the interface cannot be used") {
				t.Errorf("got %+v, had %s", s.IPv6, was.IPv6Subnet)
			}
		})
	}
}
