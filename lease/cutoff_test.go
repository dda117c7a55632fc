// SPDX-License-Identifier: Apache-2.0

package lease_test

import (
	"context"
	"fmt"
	"net/netip"
	"sync/atomic"
	"testing"

	"vxtap/lease"
	"vxtap/lease/leasetest"
)

// compactingStore cuts reads off, as etcd does that compacts its history between two
// pieces of one. What it has handed over by then is no longer there.
type compactingStore struct {
	*leasetest.Store
	left  atomic.Int32 // reads that are cut off
	ghost lease.Pair
}

func (s *compactingStore) List(ctx context.Context, prefix string, take func(lease.Pair)) (int64, error) {
	if s.left.Add(-1) < 0 {
		return s.Store.List(ctx, prefix, take)
	}
	take(s.ghost)
	return 0, fmt.Errorf("read %s: %w", prefix, lease.ErrCompacted)
}

// A read that is cut off is begun again, and nothing stays of what it had. A host that
// starts does so for as long as it takes.
func TestReadsThatACompactionCutsOff(t *testing.T) {
	operator := func(f func(*lease.Operator, lease.Config) error) func(*testing.T, *compactingStore) error {
		return func(t *testing.T, s *compactingStore) error {
			return f(lease.NewOperator(s), leasetest.Network(t))
		}
	}
	const own = "subnets/10.5.1.0-24"
	for _, tt := range []struct {
		name string
		cut  int32 // reads in a row
		f    func(*testing.T, *compactingStore) error
	}{
		{"a host that acquires", 18, func(t *testing.T, s *compactingStore) error {
			l, err := lease.New(s, lease.Options{Pick: func(int) int { return 0 }}).Acquire(t.Context(), leasetest.Network(t), leasetest.Host(1))
			if err == nil && l.Key != own { // that the ghost has
				err = fmt.Errorf("got %s, want %s", l.Key, own)
			}
			return err
		}},
		{"a host that confirms", 18, func(t *testing.T, s *compactingStore) error {
			cut := s.left.Swap(0)
			s.Hook(func(c leasetest.Call) error {
				if c.Op == "Put" && c.Done {
					s.left.Store(cut)
				}
				return nil
			})
			s.ghost.Key, s.ghost.Created = "subnets/10.5.1.0-25", 1 // older than what the host creates
			l, err := lease.New(s, lease.Options{Pick: func(int) int { return 0 }}).Acquire(t.Context(), leasetest.Network(t), leasetest.Host(1))
			if err == nil && (l.Key != own || s.left.Load() >= 0 || s.Calls("Put") != 1) {
				err = fmt.Errorf("got %s after %d writes, want %s at once", l.Key, s.Calls("Put"), own)
			}
			return err
		}},
		{"a list of all", 4, operator(func(o *lease.Operator, _ lease.Config) error {
			all, err := o.Leases(context.Background())
			if err == nil && len(all.Leases) != 0 {
				err = fmt.Errorf("got %v", all.Leases)
			}
			return err
		})},
		{"a search", 4, operator(func(o *lease.Operator, _ lease.Config) error {
			found, err := o.Find(context.Background(), lease.Named("10.5.1.0/24"))
			if err == nil && len(found) != 0 {
				err = fmt.Errorf("got %v", found)
			}
			return err
		})},
		{"a reservation", 4, operator(func(o *lease.Operator, c lease.Config) error {
			_, err := o.Reserve(context.Background(), c, lease.SubnetKey{IPv4: netip.MustParsePrefix("10.5.1.0/24")}, netip.MustParseAddr("192.168.0.9"))
			return err
		})},
		{"the config", 4, operator(func(o *lease.Operator, _ lease.Config) error {
			c, err := o.Config(context.Background())
			if err == nil && c.Revision != 0 {
				err = fmt.Errorf("got %+v", c)
			}
			return err
		})},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, store *leasetest.Store) {
				s := &compactingStore{Store: store, ghost: lease.Pair{Key: own, Value: []byte(leasetest.Value(t, 7)), Created: 2, Revision: 2}}
				if tt.name == "the config" {
					s.ghost.Key = "config"
				}
				s.left.Store(tt.cut)
				if err := tt.f(t, s); err != nil {
					t.Error(err)
				}
			})
		})
	}
}
