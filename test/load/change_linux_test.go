// SPDX-License-Identifier: Apache-2.0

package load

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"vxtap/cmd/vxlab/lab"
	"vxtap/test/bed"
	"vxtap/test/traffic"
)

const (
	// noticed is how long a daemon may take to see that the host has changed:
	// it is told of most changes, and looks every two seconds for the rest.
	noticed = 3 * time.Second
	// stalled is how long 8 MiB may take while the host changes: as long as it
	// takes to notice, and TCP another second to try again.
	stalled = noticed + 2*time.Second
)

// carry sends checked streams from one end to the other, one after the other,
// until the function that it returns is called. That one fails the test if a
// stream was cut or spoilt, or stood still.
func carry(t *testing.T, from, to traffic.End) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	end, done := make(chan struct{}), make(chan error, 1)
	go func() {
		var longest time.Duration
		for n := 0; ; n++ {
			select {
			case <-end:
				t.Logf("%d streams, the longest took %s", n, longest.Round(time.Millisecond))
				if longest > stalled {
					done <- fmt.Errorf("a stream took %s, want %s at the most", longest, stalled)
				}
				close(done)
				return
			default:
			}
			start := time.Now()
			if _, err := traffic.Stream(ctx, from, to, 8<<20); err != nil {
				done <- err
				return
			}
			longest = max(longest, time.Since(start))
		}
	}()
	return func() {
		t.Helper()
		close(end)
		err := <-done
		cancel()
		if err != nil {
			t.Error(err)
		}
	}
}

// awaitReason returns when host n says that its super-frames are cut, and in
// the reason something of what is wanted.
func awaitReason(t *testing.T, b *bed.Bed, n int, want string) {
	t.Helper()
	took := bed.Eventually(t, noticed, func() error {
		s := b.Status(n).TXPath
		if s.InUse != "udp" || !strings.Contains(s.Reason, want) {
			return fmt.Errorf("super-frames go by %s, reason %q, want udp for %q", s.InUse, s.Reason, want)
		}
		return nil
	})
	t.Logf("noticed after %s: %s", took.Round(time.Millisecond), b.Status(n).TXPath.Reason)
}

// lines counts the lines of a host's log that have text.
func lines(t *testing.T, b *bed.Bed, n int, text string) int {
	t.Helper()
	log, err := os.ReadFile(b.Host(n).Log)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(string(log), text)
}

// goesOn returns when host n's super-frames leave whole, now and not before.
func goesOn(t *testing.T, b *bed.Bed, n int) {
	t.Helper()
	before := b.Status(n).TXPath.Frames
	took := bed.Eventually(t, noticed, func() error {
		if s := b.Status(n).TXPath; s.Frames == before || s.InUse != "uplink" {
			return fmt.Errorf("super-frames go by %s (%s), %d of them whole since", s.InUse, s.Reason, s.Frames-before)
		}
		return nil
	})
	t.Logf("whole again after %s", took.Round(time.Millisecond))
}

// The host changes under a daemon that is busy. Frames go on, by UDP where the
// uplink TAP is no way any more, and status says why. What somebody does to the
// TAP itself is undone.
func TestHostChanges(t *testing.T) {
	const closed, open = "the way through the host is closed", "super-frames leave whole"
	rule := func(word string) []string { return []string{"ip", "rule", word, "iif", "vxup.1", "blackhole"} }
	tests := []struct {
		name   string
		change []string
		reason string   // why not by uplink any more; "" if that is to stay, or to be mended by the daemon
		undo   []string // nil: the daemon has
	}{
		{"a policy rule drops what the uplink TAP brings", rule("add"), "drops what it should forward", rule("del")},
		{"reverse path filtering is switched on", []string{"sysctl", "-qw", "net.ipv4.conf.all.rp_filter=1"}, "rp_filter=1", []string{"sysctl", "-qw", "net.ipv4.conf.all.rp_filter=0"}},
		{"forwarding is switched off", []string{"sysctl", "-qw", "net.ipv4.conf.vxup/1.forwarding=0"}, "", nil},
		{"reverse path filtering becomes loose", []string{"sysctl", "-qw", "net.ipv4.conf.all.rp_filter=2"}, "", nil},
		{"the firewall's FORWARD policy drops", []string{"nft", firewall}, "FORWARD", []string{"nft", "delete table ip hostile"}},
		{"the firewall masquerades what it forwards", []string{"nft", masquerade}, "masquerading", []string{"nft", "delete table ip hostile"}},
		{"the uplink TAP is taken down", []string{"ip", "link", "set", "vxup.1", "down"}, "", nil},
		{"the overlay device loses its offloads", []string{"ethtool", "-K", "flannel.1", "tx", "off", "tso", "off", "gso", "off"}, "", []string{"ethtool", "-K", "flannel.1", "tx", "on", "tso", "on", "gso", "on"}},
		{"the underlay's device loses its offloads", []string{"ethtool", "-K", "eth0", "tx", "off", "tso", "off", "gso", "off"}, "", []string{"ethtool", "-K", "eth0", "tx", "on", "tso", "on", "gso", "on"}},
		{"somebody deletes the uplink TAP", []string{"ip", "link", "del", "vxup.1"}, "", nil},
	}
	b := bed.Up(t, lab.Options{Hosts: 2})
	awaitPeers(t, b, 2, 1)
	warm(t, b.ContainerEnd(1), b.ContainerEnd(2))
	host := b.Node("h1")
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			awaitPath(t, b, 1, "uplink")
			before := lines(t, b, 1, closed)
			stop := carry(t, b.ContainerEnd(1), b.ContainerEnd(2))
			time.Sleep(100 * time.Millisecond)
			bed.Run(t, host, tt.change[0], tt.change[1:]...)
			if tt.reason != "" {
				awaitReason(t, b, 1, tt.reason)
			}
			time.Sleep(300 * time.Millisecond)
			if tt.undo == nil {
				goesOn(t, b, 1)
			}
			stop()
			if n := lines(t, b, 1, closed) - before; tt.reason != "" && n != 1 || tt.reason == "" && n > 1 {
				t.Errorf("%d lines say that the way is closed", n)
			}
			if tt.undo == nil {
				return
			}
			bed.Run(t, host, tt.undo[0], tt.undo[1:]...)
			// It is told of some changes, and looks every ten seconds for others.
			took := bed.Eventually(t, 11*time.Second, func() error {
				if s := b.Status(1).TXPath; s.InUse != "uplink" {
					return fmt.Errorf("super-frames still go by %s: %s", s.InUse, s.Reason)
				}
				return nil
			})
			t.Logf("open %s after it was undone", took.Round(time.Millisecond))
		})
	}
	if s := b.Status(1); !slices.Contains(s.Offloads.UDP, "udp-segment") {
		t.Errorf("offloads %v: UDP_SEGMENT went off, and nobody refused it", s.Offloads.UDP)
	}
}

// A host that is hostile from the start has an overlay all the same, and is
// told in one line why it is not as fast as it could be.
func TestHostIsHostile(t *testing.T) {
	tests := []struct {
		name, change, path, reason string
	}{
		{"the firewall's FORWARD policy drops", "nft '" + firewall + "'", "udp", "FORWARD"},
		{"the FORWARD policy of iptables drops, where the daemon has its rules", "iptables -P FORWARD DROP", "uplink", ""},
		{"reverse path filtering is strict", "sysctl -qw net.ipv4.conf.all.rp_filter=1", "udp", "rp_filter"},
		{"reverse path filtering is loose", "sysctl -qw net.ipv4.conf.all.rp_filter=2", "uplink", ""},
		{"somebody has a device of that name", "ip tuntap add vxup.1 mode tap", "udp", "vxup.1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := bed.Up(t, lab.Options{Hosts: 2})
			if err := b.StopHost(t.Context(), 1); err != nil {
				t.Fatal(err)
			}
			bed.Run(t, b.Node("h1"), "sh", "-c", tt.change)
			before := lines(t, b, 1, "super-frames are cut here")
			if err := b.StartHost(t.Context(), 1); err != nil {
				t.Fatal(err)
			}
			warm(t, b.ContainerEnd(1), b.ContainerEnd(2))
			bed.Eventually(t, noticed, func() error {
				if s := b.Status(1).TXPath; s.InUse != tt.path || !strings.Contains(s.Reason, tt.reason) {
					return fmt.Errorf("super-frames go by %s, reason %q, want %s for %q", s.InUse, s.Reason, tt.path, tt.reason)
				}
				return nil
			})
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			if err := traffic.BothWays(ctx, b.ContainerEnd(1), b.ContainerEnd(2), 1450, 16<<20); err != nil {
				t.Error(err)
			}
			want := 0
			if tt.path == "udp" {
				want = 1
			}
			if n := lines(t, b, 1, "super-frames are cut here") - before; n != want {
				t.Errorf("%d lines say that super-frames are cut, want %d", n, want)
			}
		})
	}
}

// firewall is what a host with containers has whose policy drops, as dockerd
// sets it: the containers' own bridge may pass.
const firewall = `table ip hostile {
	chain forward {
		type filter hook forward priority filter; policy drop;
		iifname "cni0" accept
		oifname "cni0" accept
	}
}`

// masquerade is a rule that is meant for containers and catches all. Without
// random the kernel would leave our own address and ports as they are.
const masquerade = `table ip hostile {
	chain out {
		type nat hook postrouting priority srcnat; policy accept;
		oifname "eth0" masquerade random
	}
}`
