// SPDX-License-Identifier: Apache-2.0

package lease_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"vxtap/lease"
	"vxtap/lease/leasetest"
)

// foreignValue is host 1's value with another MAC.
func foreignValue(t *testing.T, mac string) string {
	t.Helper()
	return strings.Replace(leasetest.Value(t, 1), "02:00:00:00:00:01", mac, 1)
}

// Somebody who writes all the time lives: nobody writes over that.
func TestKeepLeavesAForeignValueThatChanges(t *testing.T) {
	bubble(t, func(t *testing.T, s *leasetest.Store) {
		r := lease.New(s, lease.Options{})
		l := leasetest.Acquire(t, r, 1)
		out := leasetest.Keep(t, r, l)
		before := s.Calls("Put")
		for range 100 {
			s.Force(l.Key, foreignValue(t, "02:00:00:00:00:99"), l.Grant)
			pass(50 * time.Second)
		}
		assertKept(t, out)
		if n := s.Calls("Put") - before; n != 0 {
			t.Errorf("got %d writes, want none", n)
		}
		if r.Status().Conflict == "" {
			t.Error("nothing is said of it")
		}
	})
}

// Two daemons under one PublicIP each put their own value back. It ends.
func TestTwoDaemonsDoNotWriteForEver(t *testing.T) {
	bubble(t, func(t *testing.T, s *leasetest.Store) {
		one := lease.New(s, lease.Options{})
		l := leasetest.Acquire(t, one, 1)
		other := lease.New(s, lease.Options{})
		theirs := l
		theirs.Attrs.MAC[5] = 0x99
		outs := []<-chan error{leasetest.Keep(t, one, l), leasetest.Keep(t, other, theirs)}
		before := s.Calls("Put")
		last, at := before, time.Now()
		start := at
		for range 60 * 200 {
			pass(time.Minute)
			if n := s.Calls("Put"); n > last+1 {
				t.Fatalf("got %d writes within a minute", n-last)
			} else if n != last {
				last, at = n, time.Now()
			}
		}
		for _, out := range outs {
			assertKept(t, out)
		}
		if n := last - before; n < 15 || n > 20 {
			t.Errorf("got %d writes of two, want each at most 10, and nearly as many", n)
		}
		if took := at.Sub(start); took > 48*time.Hour {
			t.Errorf("the last write was after %v", took)
		}
		if one.Status().Conflict == "" && other.Status().Conflict == "" {
			t.Error("neither says that the other is there")
		}
	})
}

// What names another PublicIP is a loss, also when it comes while ours is about
// to be put back.
func TestKeepNeverPutsBackOverAnotherHost(t *testing.T) {
	for _, tt := range []struct {
		name  string
		after time.Duration
	}{
		{"while it is waited", 30 * time.Second},
		{"just before", time.Minute - time.Millisecond},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, s *leasetest.Store) {
				r := lease.New(s, lease.Options{})
				l := leasetest.Acquire(t, r, 1)
				out := leasetest.Keep(t, r, l)
				pass(time.Second)
				s.Force(l.Key, foreignValue(t, "02:00:00:00:00:99"), l.Grant)
				pass(tt.after)
				s.Force(l.Key, leasetest.Value(t, 2), 0)
				pass(5 * time.Minute)
				if err := leasetest.Wait(t, "the loss", out); !errors.Is(err, lease.ErrLost) {
					t.Errorf("got %v, want ErrLost", err)
				}
				if p, _ := leasetest.Get(t, s, l.Key); string(p.Value) != leasetest.Value(t, 2) {
					t.Errorf("got %s, want the other host's", p.Value)
				}
			})
		})
	}
}

// As above, in the very moment between the last look and the write.
func TestKeepPutsBackByCompareAndSwap(t *testing.T) {
	bubble(t, func(t *testing.T, s *leasetest.Store) {
		snatch := &snatcher{Store: s, value: leasetest.Value(t, 2)}
		r := lease.New(snatch, lease.Options{})
		l := leasetest.Acquire(t, r, 1)
		out := leasetest.Keep(t, r, l)
		pass(time.Second)
		snatch.armed = true
		s.Force(l.Key, foreignValue(t, "02:00:00:00:00:99"), l.Grant)
		pass(5 * time.Minute)
		if err := leasetest.Wait(t, "the loss", out); !errors.Is(err, lease.ErrLost) {
			t.Errorf("got %v, want ErrLost", err)
		}
		if p, _ := leasetest.Get(t, s, l.Key); string(p.Value) != leasetest.Value(t, 2) {
			t.Errorf("got %s, want the other host's", p.Value)
		}
	})
}
