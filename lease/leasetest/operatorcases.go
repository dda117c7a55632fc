// SPDX-License-Identifier: Apache-2.0

package leasetest

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"vxtap/lease"
)

func operatorCases() []Case {
	return []Case{
		{"a config that somebody else changed meanwhile is not overwritten", configRace},
		{"a config that hosts would refuse is not written", configRefused},
		{"a lease is listed with its end", listedWithEnd},
		{"a lease that changed since it was found is not released", releaseRace},
		{"a reservation waits for its host", reserveFree},
		{"a host at its next start takes what was reserved meanwhile", reserveOther},
		{"a lease that is reserved is kept by its running host", reserveOwn},
		{"a subnet of another host is not reserved", reserveTaken},
		{"both halves of a dual-stack subnet are reserved", reserveBoth},
	}
}

func configRace(t *testing.T, f Fixture) {
	o := lease.NewOperator(f.Store)
	none, err := o.Config(t.Context())
	if err != nil || none.Revision != 0 {
		t.Fatalf("got %+v, %v, want no config", none, err)
	}
	Put(t, f.Store, "config", Config, 0)
	if _, err := o.PutConfig(t.Context(), []byte(Config), none); !errors.Is(err, lease.ErrConflict) {
		t.Errorf("got %v, want ErrConflict", err)
	}
	now, err := o.Config(t.Context())
	if err != nil || string(now.Value) != Config {
		t.Fatalf("got %+v, %v", now, err)
	}
	const next = `{"Network": "10.6.0.0/16", "Backend": {"Type": "vxlan"}}`
	if put, err := o.PutConfig(t.Context(), []byte(next), now); err != nil || put.Revision <= now.Revision {
		t.Errorf("got %+v, %v", put, err)
	}
	if p, _ := Get(t, f.Store, "config"); string(p.Value) != next || p.Grant != 0 {
		t.Errorf("got %q with grant %d", p.Value, p.Grant)
	}
}

func configRefused(t *testing.T, f Fixture) {
	o := lease.NewOperator(f.Store)
	_, err := o.PutConfig(t.Context(), []byte(`{"Network": "10.5.0.0/16"}`), lease.StoredConfig{})
	if err == nil || !strings.Contains(err.Error(), "there is no Backend") {
		t.Errorf("got %v", err)
	}
	if p, ok := Get(t, f.Store, "config"); ok {
		t.Errorf("got %q written", p.Value)
	}
}

func listedWithEnd(t *testing.T, f Fixture) {
	o := lease.NewOperator(f.Store)
	l := Acquire(t, lease.New(f.Store, lease.Options{TTL: time.Hour}), 1)
	Put(t, f.Store, "subnets/10.5.177.0-24", Value(t, 2), 0)
	Put(t, f.Store, "subnets/junk", "{", 0)
	s, err := o.Leases(t.Context())
	if err == nil {
		err = o.FillExpires(t.Context(), s.Leases)
	}
	if err != nil || len(s.Leases) != 2 || len(s.Rejected) != 1 {
		t.Fatalf("got %+v, %v, want two leases and one key left out", s, err)
	}
	for _, got := range s.Leases {
		left := time.Until(got.Expires)
		if got.Key == l.Key && (left < 50*time.Minute || left > time.Hour) {
			t.Errorf("got %v left, want an hour", left)
		}
		if got.Key != l.Key && (!got.Reserved() || !got.Expires.IsZero()) {
			t.Errorf("got %+v, want a reservation", got)
		}
	}
}

func releaseRace(t *testing.T, f Fixture) {
	o := lease.NewOperator(f.Store)
	Put(t, f.Store, "subnets/10.5.177.0-24", Value(t, 1), 0)
	Put(t, f.Store, "subnets/10.5.178.0-24", Value(t, 2), 0)
	found, err := o.Find(t.Context(), lease.Named("10.5.177.0/24"))
	if err != nil || len(found) != 1 || found[0].Key != "subnets/10.5.177.0-24" || found[0].Fault != "" {
		t.Fatalf("got %+v, %v", found, err)
	}
	p, _ := Get(t, f.Store, found[0].Key)
	if _, err := f.Store.Put(t.Context(), p.Key, p.Value, p.Revision, 0); err != nil {
		t.Fatal(err)
	}
	if err := o.Release(t.Context(), found[0]); !errors.Is(err, lease.ErrConflict) {
		t.Errorf("got %v, want ErrConflict", err)
	}
	found, err = o.Find(t.Context(), lease.Named("10.5.177.0-24"))
	if err != nil || len(found) != 1 {
		t.Fatalf("got %+v, %v", found, err)
	}
	if err := o.Release(t.Context(), found[0]); err != nil {
		t.Error(err)
	}
	if _, ok := Get(t, f.Store, p.Key); ok {
		t.Error("the key is still there")
	}
}

// reserve reserves subnet for the first host.
func reserve(t *testing.T, f Fixture, subnet string) (lease.Reservation, error) {
	t.Helper()
	return lease.NewOperator(f.Store).Reserve(t.Context(), Network(t), lease.SubnetKey{IPv4: netip.MustParsePrefix(subnet)}, Host(1).PublicIP)
}

func reserveFree(t *testing.T, f Fixture) {
	r, err := reserve(t, f, "10.5.177.0/24")
	if err != nil || r.Already || r.Held || !r.Reserved() {
		t.Fatalf("got %+v, %v", r, err)
	}
	const value = `{"PublicIP":"192.168.0.1","PublicIPv6":null}`
	if p, _ := Get(t, f.Store, "subnets/10.5.177.0-24"); string(p.Value) != value || p.Grant != 0 {
		t.Errorf("got %s with grant %d, want %s", p.Value, p.Grant, value)
	}
	if again, err := reserve(t, f, "10.5.177.0/24"); err != nil || !again.Already || again.Revision != r.Revision {
		t.Errorf("got %+v, %v, want nothing written", again, err)
	}
	other := Acquire(t, lease.New(f.Store, lease.Options{}), 2)
	s, err := lease.NewOperator(f.Store).Leases(t.Context())
	if sel := s.Select(Network(t), other); err != nil || len(sel.Peers) != 0 || len(sel.Rejected) != 0 {
		t.Errorf("got %+v, %v, want no peer and no fault until the host is there", sel, err)
	}
	l := Acquire(t, lease.New(f.Store, lease.Options{}), 1)
	if l.Subnet != r.Subnet || !l.Reserved() {
		t.Errorf("got %+v, want the reservation", l)
	}
}

func reserveOther(t *testing.T, f Fixture) {
	// In key order the lease comes first, which is what flannel goes by.
	reg := lease.New(f.Store, lease.Options{Pick: func(int) int { return 0 }})
	before := Acquire(t, reg, 1)
	r, err := reserve(t, f, "10.5.177.0/24")
	if err != nil || len(r.Others) != 1 || r.Others[0].Subnet != before.Subnet {
		t.Fatalf("got %+v, %v, want the host's lease told", r, err)
	}
	if l := Acquire(t, reg, 1); l.Subnet != r.Subnet || !l.Reserved() {
		t.Errorf("got %+v, want the reservation", l)
	}
	if _, err := reserve(t, f, "10.5.178.0/24"); err == nil || !strings.Contains(err.Error(), "has the reservation 10.5.177.0/24 already") {
		t.Errorf("got %v for a second reservation", err)
	}
}

func reserveOwn(t *testing.T, f Fixture) {
	reg := lease.New(f.Store, lease.Options{})
	l := Acquire(t, reg, 1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- reg.Keep(ctx, l) }()
	r, err := reserve(t, f, l.Subnet.String())
	if err != nil || !r.Held || r.Already {
		t.Fatalf("got %+v, %v", r, err)
	}
	if p, _ := Get(t, f.Store, l.Key); p.Grant != 0 || string(p.Value) != Value(t, 1) {
		t.Errorf("got %s with grant %d, want our value and none", p.Value, p.Grant)
	}
	if err := f.Store.Revoke(t.Context(), l.Grant); err != nil {
		t.Fatal(err)
	}
	if _, ok := Get(t, f.Store, l.Key); !ok {
		t.Error("the reservation went with the grant that it had before")
	}
	cancel()
	if err := Wait(t, "the end of Keep", done); err != nil {
		t.Error(err)
	}
}

func reserveTaken(t *testing.T, f Fixture) {
	Put(t, f.Store, "subnets/10.5.177.0-24", Value(t, 2), 0)
	Put(t, f.Store, "subnets/10.5.178.128-25", "{", 0)
	Put(t, f.Store, "subnets/0.0.0.0-0", "{", 0) // which keeps nothing from anybody
	tests := []struct{ subnet, want string }{
		{"10.5.177.0/24", "taken by the key subnets/10.5.177.0-24, a reservation of 192.168.0.2"},
		{"10.5.178.0/24", "taken by the key subnets/10.5.178.128-25, which names no host"},
		{"10.5.0.0/24", "not between SubnetMin"},
		{"10.5.79.0/25", "it is a /25, and SubnetLen is 24"},
		{"10.6.79.0/24", "outside the Network 10.5.0.0/16"},
	}
	for _, tt := range tests {
		if _, err := reserve(t, f, tt.subnet); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", tt.subnet, err, tt.want)
		}
	}
	if _, err := reserve(t, f, "10.5.180.0/24"); err != nil {
		t.Error(err)
	}
}

func reserveBoth(t *testing.T, f Fixture) {
	o, c := lease.NewOperator(f.Store), DualNetwork(t)
	Put(t, f.Store, "subnets/10.5.177.0-24&fd00:5:0:7::-64", Value(t, 2), 0)
	for _, tt := range []struct{ key, want string }{
		{"10.5.178.0-24", "reserve both, as 10.5.178.0/24,fd00:5:0:1::/64"},
		{"10.5.177.0-24&fd00:5:0:8::-64", "10.5.177.0/24 is taken by the key"},
		{"10.5.178.0-24&fd00:5:0:7::-64", "fd00:5:0:7::/64 is taken by the key"},
		{"10.5.178.0-24&fd00:6:0:7::-64", "its IPv6 half fd00:6:0:7::/64 is no /64"},
	} {
		k, err := lease.ParseKey(tt.key)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := o.Reserve(t.Context(), c, k, Host(1).PublicIP); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", tt.key, err, tt.want)
		}
	}
	k := lease.SubnetKey{IPv4: netip.MustParsePrefix("10.5.178.0/24"), IPv6: netip.MustParsePrefix("fd00:5:0:8::/64")}
	if _, err := o.Reserve(t.Context(), c, k, Host(1).PublicIP); err != nil {
		t.Fatal(err)
	}
	l, err := lease.New(f.Store, lease.Options{}).Acquire(t.Context(), c, DualHost(1))
	if err != nil || l.Subnet != k.IPv4 || l.IPv6Subnet != k.IPv6 || !l.Reserved() {
		t.Errorf("got %+v, %v, want both halves of the reservation", l, err)
	}
	// What the host holds may be named by its IPv4 half alone.
	if r, err := o.Reserve(t.Context(), c, lease.SubnetKey{IPv4: k.IPv4}, Host(1).PublicIP); err != nil || !r.Already {
		t.Errorf("got %+v, %v, want nothing to do", r, err)
	}
	if found, err := o.Find(t.Context(), lease.Named("fd00:5:0:8::/64")); err != nil || len(found) != 1 || found[0].Key != l.Key {
		t.Errorf("got %+v, %v, want it found by its IPv6 half", found, err)
	}
}
