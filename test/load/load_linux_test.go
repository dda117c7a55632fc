// SPDX-License-Identifier: Apache-2.0

// Package load holds vxtap to what must be true while it is busy, and while
// the host around it changes: order, counted loss, packets that do not depend on
// the way they took, and streams that go on.
package load

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"testing"
	"time"

	"vxtap/test/bed"
	"vxtap/test/traffic"
)

func TestMain(m *testing.M) {
	if socket := os.Getenv(refusalSocket); socket != "" {
		err := becomeRefused(socket, os.Getenv(refusalProgram))
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(bed.Main(m))
}

// kernelSubnet and otherSubnet are not among the first hundred that a host may
// lease by itself.
var (
	kernelSubnet = netip.MustParsePrefix("172.30.200.0/24")
	otherSubnet  = netip.MustParsePrefix("172.30.201.0/24")
)

// acquaint makes two kernel hosts each other's peers.
func acquaint(t *testing.T, a, b *bed.Kernel) {
	t.Helper()
	if err := a.AddPeer(b.VTEP, b.Subnet, b.MAC); err != nil {
		t.Fatal(err)
	}
	if err := b.AddPeer(a.VTEP, a.Subnet, a.MAC); err != nil {
		t.Fatal(err)
	}
}

// awaitPeers returns when the first n hosts know so many peers.
func awaitPeers(t *testing.T, b *bed.Bed, n, peers int) {
	t.Helper()
	for i := 1; i <= n; i++ {
		bed.Eventually(t, 2*time.Second, func() error {
			if s := b.Status(i); len(s.Peers) < peers {
				return fmt.Errorf("h%d knows %d peers, want %d", i, len(s.Peers), peers)
			}
			return nil
		})
	}
}

// awaitPath returns when super-frames of host n take path.
func awaitPath(t *testing.T, b *bed.Bed, n int, path string) bed.Status {
	t.Helper()
	var s bed.Status
	bed.Eventually(t, 5*time.Second, func() error {
		if s = b.Status(n); s.TXPath.InUse != path {
			return fmt.Errorf("super-frames of h%d go by %s (%q), want %s", n, s.TXPath.InUse, s.TXPath.Reason, path)
		}
		return nil
	})
	return s
}

// warm makes both ends and all between them find each other: while a neighbour
// is asked for, what waits for the answer may be overtaken.
func warm(t *testing.T, a, b traffic.End) {
	t.Helper()
	bed.Eventually(t, 5*time.Second, func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		return traffic.Datagrams(ctx, a, b, 100, 100)
	})
}
