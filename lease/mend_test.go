// SPDX-License-Identifier: Apache-2.0

package lease_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"vxtap/lease"
	"vxtap/lease/leasetest"
)

func TestKeepPutsItsValueBackOverJunk(t *testing.T) {
	for _, tt := range []struct{ name, value string }{
		{"no JSON", "garbage"},
		{"nothing", ""},
		{"null", "null"},
		{"an empty object", "{}"},
		{"PublicIP is no host's", `{"PublicIP":"224.0.0.1","BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"02:00:00:00:00:09"}}`},
		{"another backend without a host", `{"PublicIP":"127.0.0.1","BackendType":"host-gw"}`},
		{"ours without BackendData", `{"PublicIP":"192.168.0.1","BackendType":"vxlan"}`},
		{"ours without a MAC", `{"PublicIP":"192.168.0.1","BackendType":"vxlan","BackendData":{"VNI":1}}`},
		{"ours of another backend", `{"PublicIP":"192.168.0.1","BackendType":"host-gw"}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, s *leasetest.Store) {
				log, said := logTo()
				r := lease.New(s, lease.Options{Log: log})
				l := leasetest.Acquire(t, r, 1)
				out := leasetest.Keep(t, r, l)
				pass(time.Second)
				s.Force(l.Key, tt.value, 0)
				pass(time.Second)
				assertKept(t, out)
				assertOwn(t, s, l, l.Grant)
				if n := strings.Count(said.String(), "own lease was"); n != 1 {
					t.Errorf("got %d log lines, want one: %s", n, said)
				}
				if c := r.Status().Conflict; c != "" {
					t.Errorf("got conflict %q after the value was put back", c)
				}
				pass(100 * time.Hour)
				assertKept(t, out)
				assertOwn(t, s, l, l.Grant)
			})
		})
	}
}

// assertOwn fails if l's key has not host 1's value and grant.
func assertOwn(t *testing.T, s *leasetest.Store, l lease.Lease, grant lease.GrantID) {
	t.Helper()
	if p, _ := leasetest.Get(t, s, l.Key); string(p.Value) != leasetest.Value(t, 1) || p.Grant != grant {
		t.Errorf("got %+v, want our own value with grant %d", p, grant)
	}
}

func TestKeepPutsBackWithAFreshGrant(t *testing.T) {
	bubble(t, func(t *testing.T, s *leasetest.Store) {
		r := lease.New(s, lease.Options{})
		l := leasetest.Acquire(t, r, 1)
		out := leasetest.Keep(t, r, l)
		pass(time.Second)
		s.Disconnect()
		s.Force(l.Key, "garbage", 0)
		pass(30 * time.Hour) // the grant ends
		s.Connect()
		pass(30 * time.Second)
		assertKept(t, out)
		assertOwn(t, s, l, l.Grant+1)
		pass(100 * time.Hour)
		assertKept(t, out)
		assertOwn(t, s, l, l.Grant+1)
		if err := r.Release(t.Context(), l); err != nil || s.Grants() != 0 {
			t.Errorf("got %v and %d grants after the release", err, s.Grants())
		}
	})
}

func TestKeepPutsAReservationBackWithoutAGrant(t *testing.T) {
	bubble(t, func(t *testing.T, s *leasetest.Store) {
		s.Force("subnets/10.5.9.0-24", leasetest.Value(t, 1), 0)
		r := lease.New(s, lease.Options{})
		l := leasetest.Acquire(t, r, 1)
		out := leasetest.Keep(t, r, l)
		pass(time.Second)
		s.Force(l.Key, "garbage", 0)
		pass(time.Second)
		assertKept(t, out)
		assertOwn(t, s, l, 0)
	})
}

// Two who write over each other as fast as they can would keep every peer busy.
func TestKeepPutsBackAtMostOnceInTenSeconds(t *testing.T) {
	bubble(t, func(t *testing.T, s *leasetest.Store) {
		log, said := logTo()
		r := lease.New(s, lease.Options{Log: log})
		l := leasetest.Acquire(t, r, 1)
		out := leasetest.Keep(t, r, l)
		pass(time.Second)
		before := s.Calls("Put")
		for n := range 1005 { // 100 s
			s.Force(l.Key, fmt.Sprintf("garbage %d", n), 0)
			pass(100 * time.Millisecond)
		}
		if n := s.Calls("Put") - before; n < 9 || n > 11 {
			t.Errorf("got %d writes in 100 s, want one in 10 s", n)
		}
		if n := strings.Count(said.String(), "own lease was"); n < 1 || n > 5 {
			t.Errorf("got %d log lines in 100 s: %s", n, said)
		}
		if c := r.Status().Conflict; !strings.Contains(c, "broken") {
			t.Errorf("got conflict %q while junk stands there", c)
		}
		pass(11 * time.Second)
		assertKept(t, out)
		assertOwn(t, s, l, l.Grant)
	})
}

// snatcher has another host claim a key right before a Put, once armed.
type snatcher struct {
	*leasetest.Store
	value string
	armed bool
}

func (s *snatcher) Put(ctx context.Context, key string, value []byte, ifRevision int64, id lease.GrantID) (int64, error) {
	if s.armed {
		s.Force(key, s.value, 0)
	}
	return s.Store.Put(ctx, key, value, ifRevision, id)
}

func TestKeepPutsNothingOverAnotherHostsClaim(t *testing.T) {
	bubble(t, func(t *testing.T, s *leasetest.Store) {
		store := &snatcher{Store: s, value: leasetest.Value(t, 2)}
		r := lease.New(store, lease.Options{})
		l := leasetest.Acquire(t, r, 1)
		out := leasetest.Keep(t, r, l)
		pass(time.Second)
		store.armed = true
		s.Force(l.Key, "garbage", 0)
		pass(time.Second)
		if err := leasetest.Wait(t, "the loss", out); !errors.Is(err, lease.ErrLost) {
			t.Errorf("got %v, want ErrLost", err)
		}
		if p, _ := leasetest.Get(t, s, l.Key); string(p.Value) != leasetest.Value(t, 2) {
			t.Errorf("got %s, want the other host's claim", p.Value)
		}
	})
}

func TestKeepLosesToAnotherHostWhateverItsRest(t *testing.T) {
	for _, tt := range []struct{ name, value string }{
		{"without BackendData", `{"PublicIP":"192.168.0.2","BackendType":"vxlan"}`},
		{"of another backend", `{"PublicIP":"192.168.0.2","BackendType":"host-gw"}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, s *leasetest.Store) {
				r := lease.New(s, lease.Options{})
				l := leasetest.Acquire(t, r, 1)
				out := leasetest.Keep(t, r, l)
				pass(time.Second)
				s.Force(l.Key, tt.value, 0)
				pass(time.Second)
				if err := leasetest.Wait(t, "the loss", out); !errors.Is(err, lease.ErrLost) {
					t.Errorf("got %v, want ErrLost", err)
				}
				if p, _ := leasetest.Get(t, s, l.Key); string(p.Value) != tt.value {
					t.Errorf("got %s, want the other host's claim", p.Value)
				}
			})
		})
	}
}
