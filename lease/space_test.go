// SPDX-License-Identifier: Apache-2.0

package lease_test

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"vxtap/lease"
	"vxtap/lease/leasetest"
)

// fill has s refuse what a store without space does, as long as full is set.
func fill(s *leasetest.Store, full *atomic.Bool) {
	s.Hook(func(c leasetest.Call) error {
		switch c.Op {
		case "Put", "Move", "Grant":
			if full.Load() && !c.Done {
				return fmt.Errorf("%s: %w", c.Op, lease.ErrNoSpace)
			}
		}
		return nil
	})
}

func TestAcquireWaitsForSpaceAndSaysSo(t *testing.T) {
	bubble(t, func(t *testing.T, s *leasetest.Store) {
		var full atomic.Bool
		full.Store(true)
		fill(s, &full)
		s.Force("config", leasetest.Config, 0)
		log, said := logTo()
		r := lease.New(s, lease.Options{Log: log})
		got := make(chan lease.Lease)
		go func() { got <- leasetest.Acquire(t, r, 1) }()
		pass(5 * time.Second)
		if st := r.Status(); !st.Connected || !strings.Contains(st.NoSpace, "no space") || st.LastContact.IsZero() {
			t.Errorf("got %+v, want connected without space", st)
		}
		if log := said.String(); strings.Count(log, "\n") != 1 || !strings.Contains(log, `msg="waiting for etcd to take writes again" error="Grant: no space"`) {
			t.Errorf("got log %q", log)
		}
		full.Store(false)
		<-got
		if st := r.Status(); !st.Connected || st.NoSpace != "" {
			t.Errorf("got %+v, want it to have space", st)
		}
	})
}

// Whoever was refused may have nothing to write any more when there is space again.
func TestSpaceIsNoticedByWhoeverHasNothingToWrite(t *testing.T) {
	bubble(t, func(t *testing.T, s *leasetest.Store) {
		var full atomic.Bool
		fill(s, &full)
		s.Force("config", leasetest.Config, 0)
		r := lease.New(s, lease.Options{})
		l := leasetest.Acquire(t, r, 1)
		leasetest.Keep(t, r, l)
		pass(time.Second)
		full.Store(true)
		s.Force(l.Key, "junk", l.Grant)
		pass(time.Minute)
		s.Force(l.Key, leasetest.Value(t, 1), l.Grant)
		pass(time.Minute)
		if st := r.Status(); !st.Connected || st.NoSpace == "" || st.Conflict != "" {
			t.Errorf("got %+v, want connected without space", st)
		}
		before, err := leasetest.List(t.Context(), s, "")
		if err != nil {
			t.Fatal(err)
		}
		full.Store(false)
		pass(20 * time.Second)
		if st := r.Status(); st.NoSpace != "" {
			t.Errorf("got %q 20 s after there is space", st.NoSpace)
		}
		calls := s.Calls("Put")
		pass(time.Minute)
		if now, err := leasetest.List(t.Context(), s, ""); err != nil || now.Revision != before.Revision || s.Calls("Put") != calls {
			t.Errorf("got revision %d and %d calls more, error %v: to ask must write nothing, and end", now.Revision, s.Calls("Put")-calls, err)
		}
	})
}

// A host that gets another address while the store has no space keeps its lease for
// as long as that lasts, and writes where it is when there is space again.
func TestMoveThatWaitsForSpaceKeepsTheLease(t *testing.T) {
	bubble(t, func(t *testing.T, s *leasetest.Store) {
		var full atomic.Bool
		fill(s, &full)
		c := leasetest.Network(t)
		const ttl = time.Minute
		r := lease.New(s, lease.Options{TTL: ttl})
		own := leasetest.Acquire(t, r, 1)
		full.Store(true)
		q := leasetest.Host(2)
		q.MAC, q.Before, q.Holding = own.Attrs.MAC, own, true
		var got lease.Lease
		var err error
		done := make(chan struct{})
		go func() {
			defer close(done)
			got, err = r.Acquire(t.Context(), c, q)
		}()
		pass(10 * ttl)
		calls := s.Calls("KeepAlive")
		if _, there := leasetest.Get(t, s, own.Key); !there || calls > 30 {
			t.Errorf("the lease is there: %v, after %d renewals", there, calls)
		}
		if left := time.Until(r.Status().LeaseExpires); left <= 0 {
			t.Errorf("status has a lease that ended %v ago", -left)
		}
		full.Store(false)
		<-done
		if err != nil || got.Key != own.Key || got.Created != own.Created || got.Attrs.PublicIP != q.PublicIP {
			t.Errorf("got %v, %v", got, err)
		}
	})
}

// Where the lease has ended all the same, the host hears of it at once: it has lost it.
func TestMoveThatWaitsForSpaceHearsOfALoss(t *testing.T) {
	bubble(t, func(t *testing.T, s *leasetest.Store) {
		var full atomic.Bool
		fill(s, &full)
		c := leasetest.Network(t)
		r := lease.New(s, lease.Options{TTL: time.Minute})
		own := leasetest.Acquire(t, r, 1)
		full.Store(true)
		q := leasetest.Host(2)
		q.MAC, q.Before, q.Holding = own.Attrs.MAC, own, true
		done := make(chan error)
		go func() {
			_, err := r.Acquire(t.Context(), c, q)
			done <- err
		}()
		pass(10 * time.Second)
		if err := s.Revoke(t.Context(), own.Grant); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-done:
			if !errors.Is(err, lease.ErrLost) {
				t.Errorf("got %v, want it lost", err)
			}
		case <-time.After(5 * time.Minute):
			t.Error("the host waits, for a lease that has ended")
			full.Store(false)
			t.Logf("with space: %v", <-done)
		}
	})
}
