// SPDX-License-Identifier: Apache-2.0

package leasetest

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"vxtap/lease"
)

// The names begin with the defect of flannel that a case is there to keep out,
// where there is one (numbers of the compatibility document).
func registryCases() []Case {
	return []Case{
		{"the config is waited for", configWaits},
		{"the config is followed", configFollowed},
		{"hosts see each other come and go", comeAndGo},
		{"a restart changes nothing in the store", restart},
		{"F1 a bad key or value costs that peer only", badKeys},
		{"F2 a change that was missed is found by its value", changeInGap},
		{"F3 hosts that start at once get a subnet each", startAtOnce},
		{"F4 a subnet that somebody else took is not taken back", hijacked},
		{"F5 a lease whose watch could not start is kept", keepFromDown},
		{"F6 a reservation is honoured and gets no time to live", reservation},
		{"F11 a subnet outlives the gain of an IPv6 half", gainsIPv6Half},
		{"F11 a subnet outlives the loss of its IPv6 half", dropsIPv6Half},
		{"two hosts with one IPv6 subnet: the later one gives way", ipv6Race},
		{"a deleted lease is noticed and had again", deletedAndBack},
		{"an expired lease is noticed", expired},
		{"a lease put anew without a time to live is a reservation", becomesReservation},
		{"an outage changes nothing and news come after it", outage},
		{"a released lease is gone and a released reservation is not", release},
	}
}

func configWaits(t *testing.T, f Fixture) {
	r := lease.New(f.Store, lease.Options{})
	var c lease.Config
	out := run(t, func(ctx context.Context) (err error) {
		c, err = r.Config(ctx)
		return err
	})
	Put(t, f.Store, "config-old", "not this one", 0)
	Put(t, f.Store, "config", Config, 0)
	if err := Wait(t, "the config", out); err != nil {
		t.Fatal(err)
	}
	if c.Network != Network(t).Network {
		t.Errorf("got network %v", c.Network)
	}
	Put(t, f.Store, "config", "{", 0)
	if _, err := r.Config(t.Context()); err == nil {
		t.Error("got no error for a config that does not parse")
	}
}

func comeAndGo(t *testing.T, f Fixture) {
	r := lease.New(f.Store, lease.Options{})
	w := Watch(t, r)
	w.Until(t, "nothing in it", func(s lease.Snapshot) bool { return len(s.Leases) == 0 })
	one, two := Acquire(t, r, 1), Acquire(t, r, 2)
	if one.Subnet.Overlaps(two.Subnet) || one.Reserved() || one.Expires.IsZero() {
		t.Errorf("got %+v and %+v", one, two)
	}
	s := w.Until(t, "both hosts", func(s lease.Snapshot) bool { return has(1)(s) && has(2)(s) })
	sel := s.Select(Network(t), one)
	if len(sel.Peers) != 1 || sel.Peers[0].Attrs != two.Attrs || sel.Peers[0].Subnet != two.Subnet || len(sel.Rejected) != 0 {
		t.Errorf("got %+v, want host 2 alone", sel)
	}
	if err := r.Release(t.Context(), two); err != nil {
		t.Fatal(err)
	}
	w.Until(t, "host 2 gone", hasNot(2))
}

func restart(t *testing.T, f Fixture) {
	first := Acquire(t, lease.New(f.Store, lease.Options{}), 1)
	before, _ := Get(t, f.Store, first.Key)
	if want := Value(t, 1); string(before.Value) != want {
		t.Errorf("got value  %s\nwant value %s", before.Value, want)
	}
	r := lease.New(f.Store, lease.Options{})
	own, ok, err := r.Own(t.Context(), Host(1).PublicIP)
	if err != nil || !ok || own.Attrs.MAC != Host(1).MAC || own.Subnet != first.Subnet {
		t.Fatalf("got own lease %+v, %v, %v", own, ok, err)
	}
	again := Acquire(t, r, 1)
	after, _ := Get(t, f.Store, first.Key)
	if again.Subnet != first.Subnet || after.Revision != before.Revision || after.Grant != before.Grant {
		t.Errorf("got %+v, want the key as it was, %+v", after, before)
	}
	q := Host(1)
	q.MAC[5] = 99
	moved, err := r.Acquire(t.Context(), Network(t), q)
	if err != nil || moved.Subnet != first.Subnet || moved.Grant != first.Grant || moved.Attrs.MAC != q.MAC {
		t.Errorf("got %+v, %v, want the same lease with the new MAC", moved, err)
	}
}

func badKeys(t *testing.T, f Fixture) {
	r := lease.New(f.Store, lease.Options{})
	w := Watch(t, r)
	Put(t, f.Store, "subnets/10.5.1.0-24", Value(t, 1), 0)
	w.Until(t, name(1), has(1))
	bad := map[string]string{
		"subnets/junk":            Value(t, 3),
		"subnets/x10.5.2.0-24":    Value(t, 3),
		"subnets-old/10.5.3.0-17": "",
		"subnets/10.5.4.0-24":     "{",
		"subnets/10.5.5.0-24":     strings.Replace(Value(t, 3), "02:00:00:00:00:03", "01:00:00:00:00:03", 1),
	}
	for k, v := range bad {
		Put(t, f.Store, k, v, 0)
	}
	Put(t, f.Store, "subnets/10.5.6.0-24", Value(t, 6), 0)
	s := w.Until(t, name(6), has(6))
	if !has(1)(s) {
		t.Error("a good peer went with the bad ones")
	}
	for _, rej := range s.Rejected {
		if _, ok := bad[rej.Key]; !ok || rej.Reason == "" {
			t.Errorf("rejected %+v", rej)
		}
	}
	if len(s.Rejected) != len(bad) || len(s.Leases) != 2 {
		t.Errorf("got %d leases and rejected %v, want 2 and %d", len(s.Leases), s.Rejected, len(bad))
	}
	// All of them keep their subnets all the same.
	c := Network(t)
	c.SubnetMin, c.SubnetMax = netip.MustParseAddr("10.5.1.0"), netip.MustParseAddr("10.5.7.0")
	l, err := r.Acquire(t.Context(), c, Host(7))
	if err != nil && !errors.Is(err, lease.ErrFull) {
		t.Fatal(err)
	}
	if err == nil {
		t.Errorf("got %v, want no free subnet: 10.5.0.0/17 is somebody's", l.Subnet)
	}
	Delete(t, f.Store, "subnets-old/10.5.3.0-17")
	if l, err = r.Acquire(t.Context(), c, Host(7)); err != nil || (l.Subnet.String() != "10.5.3.0/24" && l.Subnet.String() != "10.5.7.0/24") {
		t.Errorf("got %v, %v, want one of the two that nobody holds", l.Subnet, err)
	}
	w.Until(t, "one rejected key less", func(s lease.Snapshot) bool { return len(s.Rejected) == len(bad)-1 })
}

func changeInGap(t *testing.T, f Fixture) {
	const key = "subnets/10.5.1.0-24"
	r := lease.New(f.Store, lease.Options{})
	Put(t, f.Store, key, Value(t, 1), 0)
	Put(t, f.Store, "subnets/10.5.2.0-24", Value(t, 2), 0)
	ctx, cancel := context.WithCancel(t.Context())
	w := &Watcher{changed: make(chan struct{}, 1)}
	out := run(t, func(context.Context) error { return r.Watch(ctx, w.publish) })
	w.Until(t, name(1), has(1))

	f.Disconnect(t)
	f.Connect(t)
	Put(t, f.Store, key, Value(t, 9), 0) // same key, another host
	Delete(t, f.Store, "subnets/10.5.2.0-24")
	f.Compact(t)
	s := w.Until(t, name(9), has(9))
	if has(1)(s) {
		t.Error("the old value is still there")
	}
	w.Until(t, "host 2 gone", hasNot(2))
	cancel()
	if err := Wait(t, "Watch to end", out); err != nil {
		t.Errorf("got %v, want nil when its context ends", err)
	}
}

func startAtOnce(t *testing.T, f Fixture) {
	const hosts = 40
	leases := make([]lease.Lease, hosts)
	errs := make([]error, hosts)
	c := Network(t)
	var wg sync.WaitGroup
	for i := range hosts {
		wg.Go(func() {
			// A host each, and all choose alike: the worst that can happen.
			r := lease.New(f.Store, lease.Options{Pick: func(int) int { return 0 }})
			leases[i], errs[i] = r.Acquire(t.Context(), c, Host(i+1))
		})
	}
	wg.Wait()
	seen := make(map[netip.Prefix]int)
	for i, l := range leases {
		if errs[i] != nil {
			t.Fatalf("host %d: %v", i+1, errs[i])
		}
		if other, twice := seen[l.Subnet]; twice {
			t.Errorf("hosts %d and %d both got %v", other, i+1, l.Subnet)
		}
		seen[l.Subnet] = i + 1
	}
}

func hijacked(t *testing.T, f Fixture) {
	r := lease.New(f.Store, lease.Options{})
	l := Acquire(t, r, 1)
	out := Keep(t, r, l)
	Put(t, f.Store, l.Key, Value(t, 2), 0)
	if err := Wait(t, "the loss", out); !errors.Is(err, lease.ErrLost) || !strings.Contains(err.Error(), Host(2).PublicIP.String()) {
		t.Errorf("got %v, want ErrLost that names the other host", err)
	}
	q := Host(1)
	q.Previous = l.Subnet
	next, err := r.Acquire(t.Context(), Network(t), q)
	if err != nil || next.Subnet == l.Subnet {
		t.Errorf("got %v, %v, want another subnet", next.Subnet, err)
	}
	if p, _ := Get(t, f.Store, l.Key); string(p.Value) != Value(t, 2) {
		t.Errorf("got %s under the old key, want what the other host wrote", p.Value)
	}
}

func keepFromDown(t *testing.T, f Fixture) {
	r := lease.New(f.Store, lease.Options{})
	l := Acquire(t, r, 1)
	f.Disconnect(t)
	out := Keep(t, r, l)
	f.Connect(t)
	Delete(t, f.Store, l.Key)
	if err := Wait(t, "the loss", out); !errors.Is(err, lease.ErrLost) {
		t.Errorf("got %v, want ErrLost", err)
	}
}

func reservation(t *testing.T, f Fixture) {
	const key = "subnets/10.5.177.0-24"
	// As an operator writes it, who does not know the MAC yet.
	Put(t, f.Store, key, `{"PublicIP":"`+Host(1).PublicIP.String()+`"}`, 0)
	r := lease.New(f.Store, lease.Options{})
	l := Acquire(t, r, 1)
	p, _ := Get(t, f.Store, key)
	if l.Key != key || !l.Reserved() || !l.Expires.IsZero() || p.Grant != 0 || string(p.Value) != Value(t, 1) {
		t.Errorf("got %+v and %s, want the reservation with our value and no grant", l, p.Value)
	}
	if again := Acquire(t, r, 1); again.Revision != p.Revision {
		t.Error("a reservation that says all it should was written anew")
	}
	out := Keep(t, r, l)
	Delete(t, f.Store, key)
	if err := Wait(t, "the loss", out); !errors.Is(err, lease.ErrLost) {
		t.Errorf("got %v, want ErrLost", err)
	}
}

func deletedAndBack(t *testing.T, f Fixture) {
	r := lease.New(f.Store, lease.Options{})
	l := Acquire(t, r, 1)
	out := Keep(t, r, l)
	Delete(t, f.Store, l.Key)
	if err := Wait(t, "the loss", out); !errors.Is(err, lease.ErrLost) {
		t.Errorf("got %v, want ErrLost", err)
	}
	q := Host(1)
	q.Previous = l.Subnet
	back, err := r.Acquire(t.Context(), Network(t), q)
	if err != nil || back.Subnet != l.Subnet || back.Created <= l.Created {
		t.Errorf("got %+v, %v, want the same subnet anew", back, err)
	}
}

func expired(t *testing.T, f Fixture) {
	r := lease.New(f.Store, lease.Options{TTL: shortest})
	l := Acquire(t, r, 1)
	out := Keep(t, r, l)
	if err := f.Store.Revoke(t.Context(), l.Grant); err != nil { // what expiry does, without the wait
		t.Fatal(err)
	}
	if err := Wait(t, "the loss", out); !errors.Is(err, lease.ErrLost) {
		t.Errorf("got %v, want ErrLost", err)
	}
}

func becomesReservation(t *testing.T, f Fixture) {
	r := lease.New(f.Store, lease.Options{})
	l := Acquire(t, r, 1)
	out := Keep(t, r, l)
	Put(t, f.Store, l.Key, Value(t, 1), 0)
	if err := f.Store.Revoke(t.Context(), l.Grant); err != nil {
		t.Fatal(err)
	}
	if _, ok := Get(t, f.Store, l.Key); !ok {
		t.Fatal("the key went with its old grant")
	}
	Delete(t, f.Store, l.Key) // Keep must still be there to see this
	if err := Wait(t, "the loss", out); !errors.Is(err, lease.ErrLost) || !strings.Contains(err.Error(), "deleted") {
		t.Errorf("got %v, want ErrLost for the deletion", err)
	}
}

func outage(t *testing.T, f Fixture) {
	r := lease.New(f.Store, lease.Options{})
	w := Watch(t, r)
	l := Acquire(t, r, 1)
	out := Keep(t, r, l)
	w.Until(t, name(1), has(1))
	f.Disconnect(t)
	f.Connect(t)
	Put(t, f.Store, "subnets/10.5.250.0-24", Value(t, 2), 0)
	if s := w.Until(t, name(2), has(2)); !has(1)(s) {
		t.Error("the outage took host 1 away")
	}
	select {
	case err := <-out:
		t.Errorf("Keep returned %v", err)
	default:
	}
	if s := r.Status(); !s.Connected || s.LastContact.IsZero() || s.LeaseExpires.IsZero() {
		t.Errorf("got status %+v after the outage", s)
	}
}

func release(t *testing.T, f Fixture) {
	r := lease.New(f.Store, lease.Options{})
	l := Acquire(t, r, 1)
	if err := r.Release(t.Context(), l); err != nil {
		t.Fatal(err)
	}
	if _, ok := Get(t, f.Store, l.Key); ok {
		t.Error("the key is still there")
	}
	if _, err := f.Store.KeepAlive(t.Context(), l.Grant); !errors.Is(err, lease.ErrNoGrant) {
		t.Errorf("got %v for the grant, want ErrNoGrant", err)
	}
	if err := r.Release(t.Context(), l); err != nil {
		t.Errorf("second time: %v", err)
	}
	Put(t, f.Store, l.Key, Value(t, 2), 0)
	if err := r.Release(t.Context(), l); err != nil {
		t.Error(err)
	}
	Put(t, f.Store, "subnets/10.5.177.0-24", Value(t, 3), 0)
	reserved := Acquire(t, r, 3)
	if err := r.Release(t.Context(), reserved); err != nil {
		t.Error(err)
	}
	for _, key := range []string{l.Key, reserved.Key} {
		if _, ok := Get(t, f.Store, key); !ok {
			t.Errorf("%s is gone, which is not ours to give up", key)
		}
	}
}
