// SPDX-License-Identifier: Apache-2.0

package load

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"vxtap/cmd/vxlab/lab"
	"vxtap/test/bed"
	"vxtap/test/traffic"
)

// What stands in the way to one peer has the super-frames to that one cut, and
// those to no other; status names it. Nothing is lost meanwhile but what the
// rule itself ate, and the daemon is told of these rules at once.
func TestOnePeerIsBehindARule(t *testing.T) {
	b := bed.Up(t, lab.Options{Hosts: 3})
	awaitPeers(t, b, 3, 2)
	ends := []traffic.End{b.ContainerEnd(1), b.ContainerEnd(2), b.ContainerEnd(3)}
	warm(t, ends[0], ends[1])
	warm(t, ends[0], ends[2])
	peer := b.Host(3).VTEP
	for _, tt := range []struct {
		name, do, undo, reason string
	}{
		{"a policy rule", "ip rule add iif vxup.1 to " + peer.String() + " blackhole", "ip rule del iif vxup.1 to " + peer.String() + " blackhole", "drops what it should forward"},
		{"a route with a smaller MTU", "ip route add " + peer.String() + " dev eth0 mtu 1400", "ip route del " + peer.String() + " dev eth0", "the MTU on the way to the peer is too small"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			both := func() {
				t.Helper()
				for _, to := range ends[1:] {
					ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
					_, err := traffic.Stream(ctx, ends[0], to, 4<<20)
					if cancel(); err != nil {
						t.Fatal(err)
					}
				}
			}
			cut := func(want ...netip.Addr) {
				t.Helper()
				bed.Eventually(t, 11*time.Second, func() error {
					both() // a gate is looked at for those who want it
					s := b.Status(1).TXPath
					if s.InUse != "uplink" || len(s.Cut) != len(want) || len(want) > 0 && (s.Cut[0].VTEP != want[0] || !strings.Contains(s.Cut[0].Reason, tt.reason)) {
						return fmt.Errorf("super-frames go by %s (%s) but for %v, want by uplink but for %v", s.InUse, s.Reason, s.Cut, want)
					}
					return nil
				})
			}
			both()
			cut()
			bed.Run(t, b.Node("h1"), "sh", "-c", tt.do)
			cut(peer)
			before := b.Status(1).TXPath.Frames
			both()
			if n := b.Status(1).TXPath.Frames - before; n == 0 {
				t.Error("no super-frame left whole for the other peer")
			}
			text := bed.Run(t, b.Node("h1"), bed.Binary(t, "vxtap"), "status", "-run-dir", b.Host(1).RunDir)
			if !strings.Contains(text, "but not to "+peer.String()) {
				t.Errorf("vxtap status does not name the peer:\n%s", text)
			}
			bed.Run(t, b.Node("h1"), "sh", "-c", tt.undo)
			cut()
		})
	}
}
