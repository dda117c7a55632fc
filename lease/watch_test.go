// SPDX-License-Identifier: Apache-2.0

package lease_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"vxtap/lease"
	"vxtap/lease/leasetest"
)

func count(n int) func(lease.Snapshot) bool {
	return func(s lease.Snapshot) bool { return len(s.Leases) == n }
}

func TestWatchStartsWithOneSnapshot(t *testing.T) {
	bubble(t, func(t *testing.T, s *leasetest.Store) {
		for i := range 10000 {
			s.Force(fmt.Sprintf("subnets/10.%d.%d.0-24", i>>8, i&255), leasetest.Value(t, i+1), 0)
		}
		w := leasetest.Watch(t, lease.New(s, lease.Options{}))
		pass(time.Hour)
		got, n := w.Last()
		if n != 1 || len(got.Leases) != 10000 || s.Calls("KeepAlive") != 0 {
			t.Errorf("got %d snapshots, the last of %d leases", n, len(got.Leases))
		}
		for i := 1; i < len(got.Leases); i++ {
			if got.Leases[i-1].Key >= got.Leases[i].Key {
				t.Fatal("the leases are not in key order")
			}
		}
	})
}

func TestWatchPublishesAnEmptyNetwork(t *testing.T) {
	bubble(t, func(t *testing.T, s *leasetest.Store) {
		w := leasetest.Watch(t, lease.New(s, lease.Options{}))
		synctest.Wait()
		if _, n := w.Last(); n != 1 {
			t.Errorf("got %d snapshots, want one", n)
		}
	})
}

// What says nothing new is not published: flanneld puts its lease anew every
// day.
func TestWatchIgnoresRenewals(t *testing.T) {
	bubble(t, func(t *testing.T, s *leasetest.Store) {
		id, _, err := s.Grant(t.Context(), time.Hour*1000)
		if err != nil {
			t.Fatal(err)
		}
		s.Force("subnets/10.5.1.0-24", leasetest.Value(t, 1), id)
		w := leasetest.Watch(t, lease.New(s, lease.Options{}))
		pass(time.Second)
		for range 10 {
			id, _, err = s.Grant(t.Context(), time.Hour*1000)
			if err != nil {
				t.Fatal(err)
			}
			s.Force("subnets/10.5.1.0-24", leasetest.Value(t, 1), id)
			pass(10 * time.Minute)
		}
		if _, n := w.Last(); n != 1 {
			t.Errorf("got %d snapshots, want one", n)
		}
		s.Force("subnets/10.5.1.0-24", leasetest.Value(t, 2), id)
		pass(time.Second)
		if _, n := w.Last(); n != 2 {
			t.Errorf("got %d snapshots after a change of value, want two", n)
		}
	})
}

// A slow receiver does not hold the watch up, and gets one snapshot for all
// that happened meanwhile.
func TestWatchJoinsChanges(t *testing.T) {
	bubble(t, func(t *testing.T, s *leasetest.Store) {
		r := lease.New(s, lease.Options{})
		var sizes []int
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = r.Watch(t.Context(), func(s lease.Snapshot) {
				sizes = append(sizes, len(s.Leases))
				time.Sleep(time.Minute)
			})
		}()
		pass(time.Second)
		for i := range 1000 {
			s.Force(fmt.Sprintf("subnets/10.%d.%d.0-24", i>>8, i&255), leasetest.Value(t, i+1), 0)
		}
		synctest.Wait()
		if !r.Status().Connected || time.Since(r.Status().LastContact) > time.Second {
			t.Error("the watch waits for its receiver")
		}
		pass(10 * time.Minute)
		if len(sizes) != 2 || sizes[0] != 0 || sizes[1] != 1000 {
			t.Errorf("got snapshots of %v leases, want 0 and 1000", sizes)
		}
	})
}

func TestWatchFindsALostEvent(t *testing.T) {
	bubble(t, func(t *testing.T, s *leasetest.Store) {
		s.Force("subnets/10.5.1.0-24", leasetest.Value(t, 1), 0)
		s.Force("subnets/10.5.2.0-24", leasetest.Value(t, 2), 0)
		w := leasetest.Watch(t, lease.New(s, lease.Options{}))
		w.Until(t, "two leases", count(2))
		s.Forget("subnets/10.5.1.0-24")
		pass(5 * time.Minute)
		w.Until(t, "one lease", count(1))
	})
}

// The watch cannot be had, but reading works: the leases are read every two
// seconds.
func TestWatchWithoutAWatch(t *testing.T) {
	bubble(t, func(t *testing.T, s *leasetest.Store) {
		s.Hook(func(c leasetest.Call) error {
			if c.Op == "Watch" {
				return errors.New("no streams through this proxy")
			}
			return nil
		})
		w := leasetest.Watch(t, lease.New(s, lease.Options{}))
		pass(10 * time.Minute)
		reads := s.Calls("List")
		if reads < 300 || reads > 650 {
			t.Errorf("got %d reads in 10 min, want about one in 2 s", reads)
		}
		s.Force("subnets/10.5.1.0-24", leasetest.Value(t, 1), 0)
		start := time.Now()
		w.Until(t, "one lease", count(1))
		if took := time.Since(start); took > 2*time.Second {
			t.Errorf("took %v", took)
		}
	})
}

// fickle is a store whose watches are granted and then broken at once, as by a
// proxy that does not carry streams.
type fickle struct{ *leasetest.Store }

func (s fickle) Watch(ctx context.Context, prefix string, from int64, deliver func(lease.Batch)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	deliver(lease.Batch{Revision: from - 1})
	return errors.New("the stream broke")
}

func TestWatchThatIsGrantedAndBrokenBacksOff(t *testing.T) {
	bubble(t, func(t *testing.T, s *leasetest.Store) {
		w := leasetest.Watch(t, lease.New(fickle{s}, lease.Options{}))
		pass(time.Minute)
		if reads := s.Calls("List"); reads < 30 || reads > 65 {
			t.Errorf("got %d full reads in a minute, want one in 1 to 2 s", reads)
		}
		if _, n := w.Last(); n != 1 {
			t.Errorf("got %d snapshots, want one", n)
		}
	})
}

// A watch that lasted was of use: after it the first attempt is at once again.
func TestWatchThatLastedStartsTheBackoffAfresh(t *testing.T) {
	bubble(t, func(t *testing.T, s *leasetest.Store) {
		w := leasetest.Watch(t, lease.New(s, lease.Options{Resync: 1000 * time.Hour}))
		for n := range 5 {
			pass(10 * time.Second)
			s.Disconnect()
			s.Connect()
			s.Force(fmt.Sprintf("subnets/10.5.%d.0-24", n+1), leasetest.Value(t, n+1), 0)
			start := time.Now()
			w.Until(t, "the news", count(n+1))
			if took := time.Since(start); took > 150*time.Millisecond {
				t.Errorf("outage %d: took %v, want one shortest wait", n, took)
			}
		}
	})
}

// One answer from the past is not believed, a store that stays there is.
func TestWatchAfterARestoredBackup(t *testing.T) {
	bubble(t, func(t *testing.T, s *leasetest.Store) {
		for n := range 9 {
			s.Force(fmt.Sprintf("subnets/10.5.%d.0-24", n+1), leasetest.Value(t, n+1), 0)
		}
		w := leasetest.Watch(t, lease.New(s, lease.Options{}))
		w.Until(t, "nine leases", count(9))
		s.Restore(2)
		s.Force("subnets/10.5.200.0-24", leasetest.Value(t, 200), 0)
		start := time.Now()
		w.Until(t, "what the backup has", count(1))
		if took := time.Since(start); took > 10*time.Second {
			t.Errorf("took %v", took)
		}
		s.Force("subnets/10.5.201.0-24", leasetest.Value(t, 201), 0)
		w.Until(t, "what came after it", count(2))
	})
}

// goesBack is a store that is restored from a backup between a read and the watch
// that follows it.
type goesBack struct {
	*leasetest.Store
	once sync.Once
}

func (g *goesBack) Watch(ctx context.Context, prefix string, from int64, deliver func(lease.Batch)) error {
	g.once.Do(func() { g.Restore(2) })
	return g.Store.Watch(ctx, prefix, from, deliver)
}

// Such a watch breaks nowhere, and would be silent until the store comes to the
// revision that it had before.
func TestWatchThatBeginsInThePast(t *testing.T) {
	bubble(t, func(t *testing.T, s *leasetest.Store) {
		for n := range 9 {
			s.Force(fmt.Sprintf("subnets/10.5.%d.0-24", n+1), leasetest.Value(t, n+1), 0)
		}
		start := time.Now()
		w := leasetest.Watch(t, lease.New(&goesBack{Store: s}, lease.Options{}))
		w.Until(t, "what the backup has", count(0))
		if took := time.Since(start); took > 10*time.Second {
			t.Errorf("took %v", took)
		}
	})
}

func TestWatchKeepsWhatItKnows(t *testing.T) {
	bubble(t, func(t *testing.T, s *leasetest.Store) {
		s.Force("subnets/10.5.1.0-24", leasetest.Value(t, 1), 0)
		w := leasetest.Watch(t, lease.New(s, lease.Options{}))
		w.Until(t, "one lease", count(1))
		s.Disconnect()
		pass(100 * time.Hour)
		if got, n := w.Last(); n != 1 || len(got.Leases) != 1 {
			t.Errorf("got %d snapshots, the last %+v", n, got)
		}
	})
}
