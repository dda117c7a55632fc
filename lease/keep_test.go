// SPDX-License-Identifier: Apache-2.0

package lease_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"vxtap/lease"
	"vxtap/lease/leasetest"
)

// assertKept fails if Keep has returned.
func assertKept(t *testing.T, out <-chan error) {
	t.Helper()
	select {
	case err := <-out:
		t.Fatalf("Keep returned %v", err)
	default:
	}
}

func TestKeepRenewsWithoutWriting(t *testing.T) {
	for _, tt := range []struct {
		name     string
		margin   time.Duration
		min, max int // renewals in 10 days
	}{
		{"at a third of the time", time.Hour, 30, 35},
		{"margin longer than two thirds", 22 * time.Hour, 120, 135},
		{"margin longer than all of it", 48 * time.Hour, 30, 35},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, s *leasetest.Store) {
				r := lease.New(s, lease.Options{RenewMargin: tt.margin})
				l := leasetest.Acquire(t, r, 1)
				out := leasetest.Keep(t, r, l)
				pass(10 * 24 * time.Hour)
				assertKept(t, out)
				if n := s.Calls("KeepAlive"); n < tt.min || n > tt.max {
					t.Errorf("got %d renewals, want %d to %d", n, tt.min, tt.max)
				}
				if p, _ := leasetest.Get(t, s, l.Key); p.Revision != l.Revision || s.Calls("Put") != 1 || s.Calls("Grant") != 1 {
					t.Errorf("got %+v after %d writes, want the key untouched", p, s.Calls("Put"))
				}
			})
		})
	}
}

func TestKeepThroughAnOutage(t *testing.T) {
	bubble(t, func(t *testing.T, s *leasetest.Store) {
		r := lease.New(s, lease.Options{})
		l := leasetest.Acquire(t, r, 1)
		out := leasetest.Keep(t, r, l)
		pass(100 * time.Hour)
		s.Disconnect()
		pass(15 * time.Hour) // two thirds of a day are left at worst
		assertKept(t, out)
		s.Connect()
		pass(20 * time.Second)
		if left := time.Until(r.Status().LeaseExpires); left < 23*time.Hour {
			t.Errorf("got %v left soon after the outage", left)
		}
	})
}

// Cut off, stopped or asleep for longer than the lease lasts: nothing is known
// while it is so, and the loss is noticed right after.
func TestKeepCutOffPastTheTTL(t *testing.T) {
	bubble(t, func(t *testing.T, s *leasetest.Store) {
		r := lease.New(s, lease.Options{})
		l := leasetest.Acquire(t, r, 1)
		out := leasetest.Keep(t, r, l)
		s.Disconnect()
		pass(30 * time.Hour)
		assertKept(t, out)
		s.Force(l.Key, leasetest.Value(t, 2), 0) // the next owner
		s.Connect()
		pass(10 * time.Second)
		err := leasetest.Wait(t, "the loss", out)
		if !errors.Is(err, lease.ErrLost) || !strings.Contains(err.Error(), leasetest.Host(2).PublicIP.String()) {
			t.Errorf("got %v, want ErrLost that names the next owner", err)
		}
		if !r.Status().LeaseExpires.IsZero() {
			t.Error("a lost lease still has a time to expire")
		}
	})
}

// The watch says nothing of the expiry: the renewal finds out.
func TestKeepFindsExpiryByItself(t *testing.T) {
	bubble(t, func(t *testing.T, s *leasetest.Store) {
		r := lease.New(s, lease.Options{TTL: time.Minute, Resync: 1000 * time.Hour})
		l := leasetest.Acquire(t, r, 1)
		out := leasetest.Keep(t, r, l)
		pass(time.Second)
		s.Forget(l.Key)
		s.Expire(l.Grant)
		pass(time.Minute)
		if err := leasetest.Wait(t, "the loss", out); !errors.Is(err, lease.ErrLost) {
			t.Errorf("got %v, want ErrLost", err)
		}
	})
}

// And the other way round: the renewal is well, the key is gone, the watch is
// deaf. The regular look finds out.
func TestKeepLooksNowAndThen(t *testing.T) {
	bubble(t, func(t *testing.T, s *leasetest.Store) {
		r := lease.New(s, lease.Options{})
		l := leasetest.Acquire(t, r, 1)
		out := leasetest.Keep(t, r, l)
		pass(time.Second)
		s.Forget(l.Key)
		pass(5 * time.Minute)
		if err := leasetest.Wait(t, "the loss", out); !errors.Is(err, lease.ErrLost) {
			t.Errorf("got %v, want ErrLost", err)
		}
	})
}

func TestKeepFromARestoredBackup(t *testing.T) {
	bubble(t, func(t *testing.T, s *leasetest.Store) {
		r := lease.New(s, lease.Options{})
		l := leasetest.Acquire(t, r, 1)
		out := leasetest.Keep(t, r, l)
		for n := range 20 {
			s.Force("subnets/10.5.250.0-24", leasetest.Value(t, n), 0)
		}
		pass(time.Second)
		s.Restore(3)
		pass(10 * time.Minute)
		if err := leasetest.Wait(t, "the loss", out); !errors.Is(err, lease.ErrLost) {
			t.Errorf("got %v, want ErrLost: the backup is older than the lease", err)
		}
	})
}

// A flanneld that is started beside us writes its own MAC under our key. Who
// writes back at once starts a fight; it is said, and ours is put back when the
// other value has stood for a minute. (It used to stay for ever, also after who
// wrote it had ended.)
func TestKeepBesideAnotherDaemon(t *testing.T) {
	bubble(t, func(t *testing.T, s *leasetest.Store) {
		log, said := logTo()
		r := lease.New(s, lease.Options{Log: log})
		l := leasetest.Acquire(t, r, 1)
		out := leasetest.Keep(t, r, l)
		pass(time.Second)
		grant, _, err := s.Grant(t.Context(), 24*time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		theirs := strings.Replace(leasetest.Value(t, 1), "02:00:00:00:00:01", "02:00:00:00:00:99", 1)
		s.Force(l.Key, theirs, grant)
		pass(59 * time.Second)
		assertKept(t, out)
		if p, _ := leasetest.Get(t, s, l.Key); string(p.Value) != theirs || p.Grant != grant {
			t.Errorf("got %+v, want what the other daemon wrote, kept alive", p)
		}
		if c := r.Status().Conflict; !strings.Contains(c, "02:00:00:00:00:99") {
			t.Errorf("got conflict %q, want it to name the other MAC", c)
		}
		if n := strings.Count(said.String(), "own lease was overwritten"); n != 1 {
			t.Errorf("got %d log lines, want one: %s", n, said)
		}
		pass(2 * time.Second)
		p, _ := leasetest.Get(t, s, l.Key)
		if string(p.Value) != leasetest.Value(t, 1) || p.Grant == grant || p.Grant == 0 {
			t.Errorf("got %+v, want our own value with a grant of our own", p)
		}
		grant = p.Grant
		pass(100 * time.Hour)
		assertKept(t, out)
		if c := r.Status().Conflict; c != "" {
			t.Errorf("got conflict %q after it was mended", c)
		}
		s.Force(l.Key, `{"PublicIP":"192.168.0.1","BackendType":"vxlan"}`, grant)
		pass(time.Second)
		if p, _ := leasetest.Get(t, s, l.Key); string(p.Value) != leasetest.Value(t, 1) || p.Grant != grant {
			t.Errorf("got %+v, want our own value in place of the broken one", p)
		}
		if c := r.Status().Conflict; c != "" {
			t.Errorf("got conflict %q after the value was put back", c)
		}
		assertKept(t, out)
	})
}

// The same for the watch of our own key.
func TestKeepBacksOffFromABrokenWatch(t *testing.T) {
	bubble(t, func(t *testing.T, s *leasetest.Store) {
		r := lease.New(fickle{s}, lease.Options{})
		l := leasetest.Acquire(t, r, 1)
		before := s.Calls("List")
		out := leasetest.Keep(t, r, l)
		pass(time.Minute)
		assertKept(t, out)
		if n := s.Calls("List") - before; n < 30 || n > 65 {
			t.Errorf("got %d looks in a minute, want one in 1 to 2 s", n)
		}
	})
}

// A stranger who puts our key all day, each time with something else, must not
// write our log with it.
func TestKeepLogsLittleOfAStrangersPuts(t *testing.T) {
	bubble(t, func(t *testing.T, s *leasetest.Store) {
		log, said := logTo()
		r := lease.New(s, lease.Options{Log: log})
		l := leasetest.Acquire(t, r, 1)
		out := leasetest.Keep(t, r, l)
		pass(time.Second)
		before := strings.Count(said.String(), "\n")
		var last string
		for n := range 6000 { // a minute
			grant, _, err := s.Grant(t.Context(), 24*time.Hour)
			if err != nil {
				t.Fatal(err)
			}
			last = fmt.Sprintf("02:00:00:00:%02x:%02x", 1+n>>8, n&255)
			s.Force(l.Key, strings.Replace(leasetest.Value(t, 1), "02:00:00:00:00:01", last, 1), grant)
			pass(10 * time.Millisecond)
		}
		assertKept(t, out)
		if n := strings.Count(said.String(), "\n") - before; n < 2 || n > 16 {
			t.Errorf("got %d lines for 6000 puts, want one in about 5 s", n)
		}
		if c := r.Status().Conflict; !strings.Contains(c, last) {
			t.Errorf("got conflict %q, want it to name the last MAC, %s", c, last)
		}
	})
}

// A reservation is not renewed; once it is given a time to live, it is.
func TestKeepReservationThatBecomesALease(t *testing.T) {
	bubble(t, func(t *testing.T, s *leasetest.Store) {
		s.Force("subnets/10.5.9.0-24", leasetest.Value(t, 1), 0)
		r := lease.New(s, lease.Options{})
		l := leasetest.Acquire(t, r, 1)
		out := leasetest.Keep(t, r, l)
		pass(100 * time.Hour)
		if n := s.Calls("KeepAlive"); n != 0 || !r.Status().LeaseExpires.IsZero() {
			t.Errorf("got %d renewals of a reservation, status %+v", n, r.Status())
		}
		id, _, err := s.Grant(t.Context(), time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		s.Force(l.Key, leasetest.Value(t, 1), id)
		pass(100 * time.Hour)
		assertKept(t, out)
		if left := time.Until(r.Status().LeaseExpires); left <= 0 {
			t.Errorf("got %v left, want it renewed", left)
		}
	})
}
