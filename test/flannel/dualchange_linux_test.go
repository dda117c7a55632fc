// SPDX-License-Identifier: Apache-2.0

package flannel

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"vxtap/cmd/vxlab/lab"
	"vxtap/test/bed"
	"vxtap/test/traffic"
)

// ipv4Lab is a lab of an IPv4 network whose hosts have IPv6 addresses.
func ipv4Lab(hosts int) lab.Options {
	o := dualLab(hosts)
	o.IPv6Network = netip.Prefix{}
	return o
}

// F8: a flanneld of IPv4 has no device for the IPv6 half of a lease, and panics at
// the first one. The panic waits for what feeds it, so that the process stays, hears of
// nothing any more, and does not end when it is told to. Ours takes the IPv4 half.
func TestF08DualStackLease(t *testing.T) {
	flanneld := bed.FlanneldBinary(t)
	b := bed.Up(t, ipv4Lab(1))
	f := b.JoinFlanneld(t.Context(), flanneld)
	bed.Eventually(t, 5*time.Second, func() error { return reaches(t, f.ContainerEnd(), b.ContainerEnd(1)) })
	k := b.JoinDualKernel(t.Context(), peerSubnet, netip.MustParsePrefix("fd00:30:0:200::/64"))
	bed.Eventually(t, 10*time.Second, func() error {
		if _, ended := f.Ended(); !ended && !strings.Contains(f.Log(), "adding v6 subnet") {
			return errors.New("flanneld has not heard of the lease, or it has been mended")
		}
		return nil
	})
	// It may end or hang: what comes after is lost on it.
	joined, err := b.Join(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	bed.Eventually(t, 5*time.Second, func() error { return reaches(t, b.ContainerEnd(1), k.IPv4.ContainerEnd()) })
	if _, err := traffic.Stream(t.Context(), b.ContainerEnd(1), k.IPv4.ContainerEnd(), streamBytes); err != nil {
		t.Error(err)
	}
	bed.Eventually(t, 5*time.Second, func() error {
		if s := b.Status(1); s.State != "ready" || len(s.Peers) != 3 || !s.HasPeer(joined.Subnet) || len(s.Rejected) != 0 {
			return fmt.Errorf("ours is %s with peers %v and leaves out %v, want all well", s.State, s.Peers, s.Rejected)
		}
		return nil
	})
	if err := peers(t, f, 2); err != nil {
		t.Errorf("flanneld knows %s: it has been mended: %v", joined.Subnet, err)
	}
	if _, ended := f.Ended(); !ended { // its stacks say where it hangs
		if err := syscall.Kill(f.PID(), syscall.SIGQUIT); err != nil {
			t.Fatal(err)
		}
	}
	bed.Eventually(t, 5*time.Second, func() error {
		if status, ended := f.Ended(); !ended || status != 2 {
			return fmt.Errorf("flanneld ended %t with status %d", ended, status)
		}
		return nil
	})
	if log := f.Log(); !strings.Contains(log, "panic") || !strings.Contains(log, "AddV6ARP") {
		t.Error("flanneld did not panic: it has been mended")
	}
}

// F11: a flanneld that is started again after its network was made dual-stack
// deletes its lease, panics at any lease without an IPv6 half, its own former one
// included, and when it is started once more it does not want its subnet back. Ours
// keeps it.
func TestF11ChangeToDualStack(t *testing.T) {
	flanneld := bed.FlanneldBinary(t)
	b := bed.Up(t, ipv4Lab(1))
	f := b.JoinFlanneld(t.Context(), flanneld)
	ours := b.Host(1)
	f.Stop()
	makeDual(t, b)
	if err := errors.Join(b.StopHost(t.Context(), 1), b.StartHost(t.Context(), 1)); err != nil {
		t.Fatal(err)
	}
	if got := b.Host(1); got.Subnet != ours.Subnet || got.MAC != ours.MAC || !got.IPv6Subnet.IsValid() {
		t.Errorf("got %s, %s and %s, want %s and %s as before, and IPv6", got.Subnet, got.MAC, got.IPv6Subnet, ours.Subnet, ours.MAC)
	}

	first := f.Again()
	bed.Eventually(t, 10*time.Second, func() error {
		if status, ended := first.Ended(); !ended || status != 2 || !strings.Contains(first.Log(), "nil pointer dereference") {
			return fmt.Errorf("flanneld ended %t with status %d: it has been mended", ended, status)
		}
		return nil
	})
	if key, _ := b.LeaseOf(lab.Host{VTEP: f.VTEP}); key != "" {
		t.Errorf("flanneld has left its lease %s: it has been mended", key)
	}
	second := first.Again()
	bed.Eventually(t, 10*time.Second, func() error {
		if !strings.Contains(second.SubnetFile(), "FLANNEL_IPV6_SUBNET") {
			return errors.New("flanneld has not written its IPv6 subnet")
		}
		return nil
	})
	// It chooses one of a hundred at random, which may be the same by chance.
	t.Logf("flanneld had %s and has %s", f.Subnet, second.AwaitSubnet())
	if want := fmt.Sprintf("previously leased subnet (%s) that is not compatible", f.Subnet); !strings.Contains(second.Log(), want) {
		t.Errorf("flanneld wants its earlier subnet %s back: it has been mended", f.Subnet)
	}
}

// makeDual puts a dual-stack config, with the rules that a flanneld can start with
// on this machine.
func makeDual(t *testing.T, b *bed.Bed) {
	t.Helper()
	before := strings.TrimSpace(b.Etcdctl("get", "--print-value-only", bed.Prefix+"/config"))
	b.Etcdctl("put", bed.Prefix+"/config", `{"EnableIPv6":true,"IPv6Network":"fd00:30::/48",`+strings.TrimPrefix(before, "{"))
}
