// SPDX-License-Identifier: Apache-2.0

package leasetest

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"vxtap/lease"
)

// DualNetwork returns a dual-stack network, 10.5.0.0/16 and fd00:5::/48.
func DualNetwork(t testing.TB) lease.Config {
	t.Helper()
	c, err := lease.ParseConfig([]byte(`{"EnableIPv6": true, "Network": "10.5.0.0/16", "IPv6Network": "fd00:5::/48", "Backend": {"Type": "vxlan"}}`))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// DualHost returns the request of the n-th host where it has IPv6 too.
func DualHost(n int) lease.Request {
	q := Host(n)
	b := netip.MustParseAddr("fd01::").As16()
	b[14], b[15] = byte(n>>8), byte(n)
	q.PublicIPv6, q.IPv6MAC = netip.AddrFrom16(b), q.MAC
	q.IPv6MAC[4] = 6
	return q
}

// The lease, with its grant, and a reservation, without one, get another key.
func dropsIPv6Half(t *testing.T, f Fixture) {
	grant, _, err := f.Store.Grant(t.Context(), 24*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	for n, grant := range []lease.GrantID{grant, 0} {
		old := fmt.Sprintf("subnets/10.5.%d.0-24&fd00:12:13:%d::-64", 77+n, n)
		Put(t, f.Store, old, Value(t, 1+n), grant)
		l := Acquire(t, lease.New(f.Store, lease.Options{}), 1+n)
		if _, ok := Get(t, f.Store, old); ok || l.IPv6Subnet.IsValid() {
			t.Errorf("got %+v, want the old key gone", l)
		}
		if p, ok := Get(t, f.Store, fmt.Sprintf("subnets/10.5.%d.0-24", 77+n)); !ok || p.Grant != grant || string(p.Value) != Value(t, 1+n) {
			t.Errorf("got %+v, want the new key, with the grant %v", p, grant)
		}
	}
}

// flannel takes another IPv4 subnet too (F11).
func gainsIPv6Half(t *testing.T, f Fixture) {
	r := lease.New(f.Store, lease.Options{})
	w := Watch(t, r)
	before := Acquire(t, r, 1)
	w.Until(t, name(1), has(1))
	r = lease.New(f.Store, lease.Options{})
	l, err := r.Acquire(t.Context(), DualNetwork(t), DualHost(1))
	if err != nil || l.Subnet != before.Subnet || l.Grant != before.Grant || l.Expires.IsZero() {
		t.Fatalf("got %+v, %v, want the subnet and the grant of %+v", l, err, before)
	}
	s := w.Until(t, "the moved lease", func(s lease.Snapshot) bool { return len(s.Leases) == 1 && s.Leases[0].Key == l.Key })
	if len(s.Rejected) != 0 || s.Leases[0].Attrs != l.Attrs || s.Leases[0].IPv6Subnet != l.IPv6Subnet {
		t.Errorf("got %+v, want one lease with two halves, %+v", s, l)
	}
	p, _ := Get(t, f.Store, l.Key)
	want := `{"PublicIP":"192.168.0.1","PublicIPv6":"fd01::1","BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"02:00:00:00:00:01"},"BackendV6Data":{"VNI":1,"VtepMAC":"02:00:00:00:06:01"}}`
	if string(p.Value) != want {
		t.Errorf("got  %s\nwant %s", p.Value, want)
	}
	out := Keep(t, r, l)
	Delete(t, f.Store, l.Key) // Keep watches the new key
	if err := Wait(t, "the loss", out); !errors.Is(err, lease.ErrLost) {
		t.Errorf("got %v, want ErrLost", err)
	}
}

// Their keys differ, so that the store lets both be created.
func ipv6Race(t *testing.T, f Fixture) {
	const hosts = 12
	leases := make([]lease.Lease, hosts)
	errs := make([]error, hosts)
	c := DualNetwork(t)
	var wg sync.WaitGroup
	for i := range hosts {
		wg.Go(func() {
			// Each chooses an IPv4 subnet of its own, and all the same IPv6 one.
			asked := 0
			pick := func(n int) int {
				if asked++; asked%2 == 1 {
					return min(i, n-1)
				}
				return 0
			}
			leases[i], errs[i] = lease.New(f.Store, lease.Options{Pick: pick}).Acquire(t.Context(), c, DualHost(i+1))
		})
	}
	wg.Wait()
	seen := make(map[netip.Prefix]int)
	for i, l := range leases {
		if errs[i] != nil {
			t.Fatalf("host %d: %v", i+1, errs[i])
		}
		for _, p := range []netip.Prefix{l.Subnet, l.IPv6Subnet} {
			if other, twice := seen[p]; twice {
				t.Errorf("hosts %d and %d both got %v", other, i+1, p)
			}
			seen[p] = i + 1
		}
	}
	all, err := List(t.Context(), f.Store, "subnets")
	if err != nil || len(all.Pairs) != hosts {
		t.Errorf("got %d keys, %v, want %d", len(all.Pairs), err, hosts)
	}
}
