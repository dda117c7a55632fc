// SPDX-License-Identifier: Apache-2.0

package dualstack

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"vxtap/cmd/vxlab/lab"
	"vxtap/test/bed"
)

// A host that has a link-local IPv6 address alone for a while, because the other
// one is gone or comes late at boot, has the other one as soon as it is there.
func TestLinkLocalForAWhile(t *testing.T) {
	b := bed.Up(t, lab.Options{Hosts: 2, IPv6Underlay: underlay6, IPv6Network: network6})
	h, h1 := b.Host(1), b.Node("h1")
	del := []string{"ip", "-6", "addr", "del", h.IPv6VTEP.String() + "/64", "dev", "eth0"}
	add := []string{"ip", "-6", "addr", "add", h.IPv6VTEP.String() + "/64", "dev", "eth0"}
	warned := func(want string) {
		t.Helper()
		bed.Eventually(t, 10*time.Second, func() error {
			if all := b.Status(1).Warnings; (want != "") != strings.Contains(strings.Join(all, "\n"), "IPv6 address") || !strings.Contains(strings.Join(all, "\n"), want) {
				return fmt.Errorf("got the warnings %q, want %q", all, want)
			}
			return nil
		})
	}
	back := func() {
		t.Helper()
		bed.Run(t, h1, add[0], add[1:]...)
		bed.Eventually(t, 10*time.Second, func() error {
			if s := b.Status(1).IPv6; s.VTEP != h.IPv6VTEP || s.Address != h.IPv6VTEP || s.Subnet != h.IPv6Subnet {
				return fmt.Errorf("got %s and %s, want %s", s.VTEP, s.Address, h.IPv6VTEP)
			}
			return reach(t, b.ContainerEnd6(1), b.ContainerEnd6(2))
		})
		warned("")
	}
	bed.Eventually(t, soon, func() error { return reach(t, b.ContainerEnd6(1), b.ContainerEnd6(2)) })

	bed.Run(t, h1, del[0], del[1:]...)
	warned(h.IPv6VTEP.String() + " is gone")
	if v := b.Status(1).IPv6.VTEP; v != h.IPv6VTEP {
		t.Errorf("the lease says %s, want what comes back", v)
	}
	back()

	bed.Run(t, h1, del[0], del[1:]...)
	restart(t, b, 1)
	if s := b.Status(1).IPv6; !s.VTEP.IsLinkLocalUnicast() {
		t.Fatalf("started with %s, want a link-local address", s.VTEP)
	}
	warned("is link-local")
	back()
}
