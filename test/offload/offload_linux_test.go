// SPDX-License-Identifier: Apache-2.0

// Package offload proves that what is on the wire, and what arrives, does not
// depend on which offloads are in use, on either side or in the kernel between,
// and that memory and rest are what they should be with all of them on.
package offload

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
	"vxtap/encap/vxlan"
	"vxtap/test/bed"
	"vxtap/test/traffic"
)

func TestMain(m *testing.M) { os.Exit(bed.Main(m)) }

// kernelSubnet is not among the first hundred that a host may lease by itself.
var kernelSubnet = netip.MustParsePrefix("172.30.200.0/24")

// limit bounds the traffic of one pair of ends.
const limit = 20 * time.Second

// awaitPeers returns when each host knows so many peers.
func awaitPeers(t *testing.T, b *bed.Bed, peers int) {
	t.Helper()
	for i, h := range b.Hosts() {
		if h.Bare {
			continue
		}
		bed.Eventually(t, 10*time.Second, func() error {
			if s := b.Status(i + 1); len(s.Peers) < peers {
				return fmt.Errorf("%s knows %d peers, want %d", h.Node, len(s.Peers), peers)
			}
			return nil
		})
	}
}

// awaitPath returns the status of host n when its super-frames take path.
func awaitPath(t *testing.T, b *bed.Bed, n int, path string) (s bed.Status) {
	t.Helper()
	bed.Eventually(t, 5*time.Second, func() error {
		if s = b.Status(n); s.TXPath.InUse != path {
			return fmt.Errorf("super-frames of h%d go by %s (%q), want %s", n, s.TXPath.InUse, s.TXPath.Reason, path)
		}
		return nil
	})
	return s
}

// everything sends all kinds of traffic both ways, and a stream of n bytes.
func everything(t *testing.T, a, b traffic.End, mtu int, n int64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	if err := traffic.BothWays(ctx, a, b, mtu, n); err != nil {
		t.Error(err)
	}
}

// The same bytes arrive whichever offload is missing, and status says what is
// in use.
func TestEachOffloadOff(t *testing.T) {
	all, sockets := []string{"csum", "tso4", "tso6", "ecn", "uso4", "uso6"}, []string{"udp-segment", "udp-gro"}
	without := func(names []string, gone ...string) []string {
		return slices.DeleteFunc(slices.Clone(names), func(s string) bool { return slices.Contains(gone, s) })
	}
	tests := []struct {
		arg     string
		tap     []string
		udp     []string
		queues  int
		path    string
		reason  string // that super-frames are cut for
		noMerge bool   // received segments are not joined
	}{
		{arg: "-offload=-csum", udp: sockets, queues: 1, path: "udp", reason: "-offload", noMerge: true},
		{arg: "-offload=-tso", tap: without(all, "tso4", "tso6", "ecn"), udp: sockets, path: "uplink"},
		{arg: "-offload=-uso", tap: without(all, "uso4", "uso6"), udp: sockets, path: "uplink"},
		{arg: "-offload=-udp-segment", tap: all, udp: []string{"udp-gro"}, path: "uplink"},
		{arg: "-offload=-udp-gro", tap: all, udp: []string{"udp-segment"}, path: "uplink"},
		{arg: "-offload=-coalesce", tap: all, udp: sockets, path: "uplink", noMerge: true},
		{arg: "-offload=off", queues: 1, path: "udp", reason: "-offload", noMerge: true},
		{arg: "-tx-path=udp", tap: all, udp: sockets, path: "udp", reason: "-tx-path=udp"},
		{arg: "-queues=4", tap: all, udp: sockets, queues: 4, path: "uplink"},
	}
	for _, tt := range tests {
		t.Run(tt.arg, func(t *testing.T) {
			b := bed.Up(t, lab.Options{Hosts: 2, Args: []string{tt.arg}})
			awaitPeers(t, b, 1)
			for n := 1; n <= 2; n++ {
				s := awaitPath(t, b, n, tt.path)
				if !slices.Equal(s.Offloads.TAP, tt.tap) || !slices.Equal(s.Offloads.UDP, tt.udp) {
					t.Errorf("h%d: offloads are %v and %v, want %v and %v", n, s.Offloads.TAP, s.Offloads.UDP, tt.tap, tt.udp)
				}
				if tt.queues != 0 && s.Queues != tt.queues {
					t.Errorf("h%d: got %d queues, want %d", n, s.Queues, tt.queues)
				}
				if !strings.HasPrefix(s.TXPath.Reason, tt.reason) || (tt.reason == "") != (s.TXPath.Reason == "") {
					t.Errorf("h%d: super-frames are cut for %q, want %q", n, s.TXPath.Reason, tt.reason)
				}
				line := logged(t, b.Host(n), "msg=forwarding")
				if len(line) != 1 || strings.Contains(line[0], "coalesce") == tt.noMerge {
					t.Errorf("h%d: joins segments: want %t, log %q", n, !tt.noMerge, line)
				}
			}
			// A gate is asked for by the first super-frames: without TCP's the few
			// that there are may have been cut before it was open.
			for range 5 {
				everything(t, b.ContainerEnd(1), b.ContainerEnd(2), 1500-vxlan.OverheadIPv4, 8<<20)
				if b.Status(1).TXPath.Frames > 0 || tt.path == "udp" {
					break
				}
			}
			if s := b.Status(1); (s.TXPath.Frames > 0) != (tt.path == "uplink") {
				t.Errorf("%d super-frames left whole, by %s", s.TXPath.Frames, tt.path)
			}
		})
	}
}

// logged returns the lines of a host's log that contain text.
func logged(t *testing.T, h lab.Host, text string) (lines []string) {
	t.Helper()
	all, err := os.ReadFile(h.Log)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(all)) {
		if strings.Contains(line, text) {
			lines = append(lines, line)
		}
	}
	return lines
}
