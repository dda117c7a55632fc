// SPDX-License-Identifier: Apache-2.0

package lease_test

import (
	"context"
	"encoding/json"
	"testing"

	"vxtap/encap/ether"
	"vxtap/lease"
	"vxtap/lease/leasetest"
)

// valueOf is what host n would write with another MAC.
func valueOf(t *testing.T, n int, mac ether.MAC) string {
	t.Helper()
	b, err := json.Marshal(lease.Attrs{PublicIP: leasetest.Host(n).PublicIP, BackendType: "vxlan", VNI: 1, MAC: mac})
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// A host with another address keeps its lease, and its containers their
// addresses, where it can be told that the lease is its own; and takes nobody
// else's.
func TestAcquireUnderAnotherAddress(t *testing.T) {
	for _, tt := range []struct {
		name    string
		harm    func(t *testing.T, s *leasetest.Store, l lease.Lease)
		keeps   bool
		changed bool // the old key, if the host does not keep it
	}{
		{name: "as it left it", keeps: true},
		{name: "put again by hand", keeps: true, harm: func(t *testing.T, s *leasetest.Store, l lease.Lease) {
			s.Force(l.Key, leasetest.Value(t, 1), l.Grant)
		}},
		{name: "reserved for it meanwhile", keeps: true, harm: func(t *testing.T, s *leasetest.Store, l lease.Lease) {
			s.Force(l.Key, leasetest.Value(t, 1), 0)
		}},
		{name: "another host's by now", harm: func(t *testing.T, s *leasetest.Store, l lease.Lease) {
			s.Force(l.Key, leasetest.Value(t, 3), 0)
		}},
		{name: "of a host that has the old address by now", harm: func(t *testing.T, s *leasetest.Store, l lease.Lease) {
			s.Force(l.Key, valueOf(t, 1, ether.MAC{2, 9, 9, 9, 9, 9}), 0)
		}},
		{name: "deleted and made again", harm: func(t *testing.T, s *leasetest.Store, l lease.Lease) {
			s.Forget(l.Key)
			s.Force(l.Key, leasetest.Value(t, 1), 0)
		}},
		{name: "moved to a third address", harm: func(t *testing.T, s *leasetest.Store, l lease.Lease) {
			q := leasetest.Host(3)
			q.MAC = leasetest.Host(1).MAC
			s.Force(l.Key, valueOf(t, 3, q.MAC), 0)
		}},
		{name: "broken", harm: func(t *testing.T, s *leasetest.Store, l lease.Lease) {
			s.Force(l.Key, "{", 0)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, s *leasetest.Store) {
				r := lease.New(s, lease.Options{})
				before := leasetest.Acquire(t, r, 1)
				if tt.harm != nil {
					tt.harm(t, s, before)
				}
				found, _ := leasetest.Get(t, s, before.Key)
				q := lease.Request{PublicIP: leasetest.Host(2).PublicIP, MAC: before.Attrs.MAC, Previous: before.Subnet, Before: before}
				l, err := r.Acquire(t.Context(), leasetest.Network(t), q)
				if err != nil {
					t.Fatal(err)
				}
				p, _ := leasetest.Get(t, s, before.Key)
				if !tt.keeps {
					if l.Subnet == before.Subnet || string(p.Value) != string(found.Value) || p.Revision != found.Revision {
						t.Errorf("got %v, and the key is %s where it was %s", l.Subnet, p.Value, found.Value)
					}
					return
				}
				if l.Subnet != before.Subnet || l.Created != before.Created || l.Grant != found.Grant {
					t.Errorf("got %+v, want the lease %+v moved", l, before)
				}
				a, err := lease.ParseAttrs(p.Value)
				if err != nil || a.PublicIP != q.PublicIP || a.MAC != before.Attrs.MAC {
					t.Errorf("published %s", p.Value)
				}
				if p.Revision != found.Revision+1 && tt.harm == nil {
					t.Errorf("from revision %d to %d, want one write", found.Revision, p.Revision)
				}
			})
		})
	}
}

// An address may have been another host's, whose lease is still there. The
// containers of this one live in the subnet that it had.
func TestAcquireUnderAnAddressThatAnotherHostHad(t *testing.T) {
	bubble(t, func(t *testing.T, s *leasetest.Store) {
		r := lease.New(s, lease.Options{Pick: func(n int) int { return n - 1 }})
		before := leasetest.Acquire(t, r, 1)
		s.Force("subnets/10.5.1.0-24", leasetest.Value(t, 2), before.Grant) // first in key order
		q := lease.Request{PublicIP: leasetest.Host(2).PublicIP, MAC: before.Attrs.MAC, Before: before}
		if l, err := r.Acquire(t.Context(), leasetest.Network(t), q); err != nil || l.Subnet != before.Subnet {
			t.Errorf("got %v, %v, want %v", l.Subnet, err, before.Subnet)
		}
		s.Force("subnets/10.5.2.0-24", leasetest.Value(t, 2), 0)
		if l, err := r.Acquire(t.Context(), leasetest.Network(t), q); err != nil || l.Subnet != prefix("10.5.2.0/24") {
			t.Errorf("got %v, %v, want what is reserved for the address", l.Subnet, err)
		}
	})
}

// Between the look and the write somebody else is faster: nothing of theirs is
// written over.
func TestAcquireUnderAnotherAddressRace(t *testing.T) {
	bubble(t, func(t *testing.T, s *leasetest.Store) {
		faster := &fasterStore{Store: s, value: leasetest.Value(t, 3)}
		r := lease.New(faster, lease.Options{})
		before := leasetest.Acquire(t, r, 1)
		faster.key = before.Key
		q := lease.Request{PublicIP: leasetest.Host(2).PublicIP, MAC: before.Attrs.MAC, Previous: before.Subnet, Before: before}
		l, err := r.Acquire(t.Context(), leasetest.Network(t), q)
		p, _ := leasetest.Get(t, s, before.Key)
		if err != nil || faster.key != "" || l.Subnet == before.Subnet || string(p.Value) != leasetest.Value(t, 3) {
			t.Errorf("got %v, %v, and the key is %s", l.Subnet, err, p.Value)
		}
	})
}

// fasterStore has somebody else write to key right before the next write to it.
type fasterStore struct {
	*leasetest.Store
	key, value string
}

func (s *fasterStore) Put(ctx context.Context, key string, value []byte, ifRevision int64, grant lease.GrantID) (int64, error) {
	if key == s.key {
		s.key = ""
		s.Force(key, s.value, 0)
	}
	return s.Store.Put(ctx, key, value, ifRevision, grant)
}
