// SPDX-License-Identifier: Apache-2.0

package flannel

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"vxtap/test/bed"
)

// In a dual-stack network a flanneld ends, and its host has no IPv4 either, where
// there is no IPv6 address, or no ip6tables. What ours does without is in
// TestHostWithoutIPv6 and TestRulesWithoutIP6Tables of test/dualstack.
func TestDualStackWithoutPartsOfIPv6(t *testing.T) {
	flanneld := bed.FlanneldBinary(t)
	b := bed.Up(t, dualLab(1))
	bare, err := b.JoinBare(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ns := b.Node(bare.Node)
	ends := func(t *testing.T, program, why string, args ...string) {
		t.Helper()
		f := bed.StartFlanneld(t, program, ns, b.EtcdURL(), filepath.Join(t.TempDir(), "subnet.env"), args...)
		bed.Eventually(t, 10*time.Second, func() error {
			if status, ended := f.Ended(); !ended || status != 1 || !strings.Contains(f.Log(), why) {
				return fmt.Errorf("ended %t with status %d: it has been mended", ended, status)
			}
			return nil
		})
	}
	t.Run("no ip6tables", func(t *testing.T) {
		ends(t, withPrograms(t, flanneld, "iptables", "iptables-restore", "nft"), "ip6tables", "-ip-masq")
	})
	t.Run("no address", func(t *testing.T) {
		bed.Run(t, ns, "ip", "-6", "addr", "flush", "dev", "eth0")
		ends(t, flanneld, "failed to find IPv6 address")
	})
}

// A flanneld that is to choose a subnet in a dual-stack network panics while any
// lease there has no IPv6 half. Ours chooses, and has that lease for an IPv4 peer.
func TestDualStackBesideIPv4(t *testing.T) {
	flanneld := bed.FlanneldBinary(t)
	b := bed.Up(t, dualLab(1))
	k := b.JoinKernel(t.Context(), peerSubnet)
	bare, err := b.JoinBare(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	f := bed.StartFlanneld(t, flanneld, b.Node(bare.Node), b.EtcdURL(), filepath.Join(t.TempDir(), "subnet.env"))
	bed.Eventually(t, 10*time.Second, func() error {
		if status, ended := f.Ended(); !ended || status != 2 || !strings.Contains(f.Log(), "IP6Net.Overlaps") {
			return fmt.Errorf("ended %t with status %d: it has been mended", ended, status)
		}
		return nil
	})
	joined, err := b.Join(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !joined.Subnet.IsValid() || !joined.IPv6Subnet.IsValid() {
		t.Errorf("got %s and %s, want subnets of both families", joined.Subnet, joined.IPv6Subnet)
	}
	bed.Eventually(t, 5*time.Second, func() error { return reaches(t, b.ContainerEnd(1), k.ContainerEnd()) })
	bed.Eventually(t, 5*time.Second, func() error {
		if s := b.Status(1); !s.HasPeer(peerSubnet) || len(s.Peers) != 2 || len(s.IPv6.Peers) != 1 || len(s.Rejected) != 0 {
			return fmt.Errorf("got peers %v, of IPv6 %v, left out %v; want %s for an IPv4 peer only", s.Peers, s.IPv6.Peers, s.Rejected, peerSubnet)
		}
		return nil
	})
}

// withPrograms returns a script that runs a flanneld where there are no programs
// but these.
func withPrograms(t *testing.T, flanneld string, names ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range names {
		path, err := exec.LookPath(name)
		if err == nil {
			err = os.Symlink(path, filepath.Join(dir, name))
		}
		if err != nil {
			t.Fatalf("%v (.ci/deps installs it)", err)
		}
	}
	script := filepath.Join(t.TempDir(), "run")
	text := fmt.Sprintf("#!/bin/sh\nPATH=%s exec %s \"$@\"\n", dir, flanneld)
	if err := os.WriteFile(script, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	return script
}
