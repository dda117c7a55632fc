// SPDX-License-Identifier: Apache-2.0

package lease_test

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"vxtap/lease"
	"vxtap/lease/leasetest"
)

// remembered returns what the first of two hosts knows, as it comes back from
// the disk.
func remembered(t *testing.T, s *leasetest.Store, r *lease.Registry) lease.Memory {
	t.Helper()
	s.Force("config", leasetest.Config, 0)
	if _, err := r.Config(t.Context()); err != nil {
		t.Fatal(err)
	}
	own := leasetest.Acquire(t, r, 1)
	leasetest.Acquire(t, r, 2)
	all := leasetest.Watch(t, r).Until(t, "two hosts", func(s lease.Snapshot) bool { return len(s.Leases) == 2 })
	path := filepath.Join(t.TempDir(), r.MemoryName(own.Attrs.PublicIP))
	if err := r.Memory(own, all).WriteFile(path); err != nil {
		t.Fatal(err)
	}
	m, err := lease.ReadMemory(path)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestCheckMemory(t *testing.T) {
	nothing := func(*lease.Memory) {}
	for _, tt := range []struct {
		name   string
		after  time.Duration
		change func(*lease.Memory)
		host   int
		want   string // "" if it is good
		stale  bool
	}{
		{"at once", 0, nothing, 1, "", false},
		{"a moment before the lease ends", 24*time.Hour - time.Second, nothing, 1, "", false},
		{"when the lease has ended", 24 * time.Hour, nothing, 1, "good until", true},
		{"after the lease was lost", time.Hour, func(m *lease.Memory) { m.Own.Expires = m.At }, 1, "good until", true},
		{"a lease that ends in a thousand years", 24 * time.Hour, func(m *lease.Memory) { m.Own.Expires = m.At.AddDate(1000, 0, 0) }, 1, "good until", true},
		{"a reservation of today", 23 * time.Hour, func(m *lease.Memory) { m.Own.Grant, m.Own.Expires = 0, time.Time{} }, 1, "", false},
		{"a reservation of yesterday", 24 * time.Hour, func(m *lease.Memory) { m.Own.Grant, m.Own.Expires = 0, time.Time{} }, 1, "good until", true},
		{"the clock was set back an hour", 0, func(m *lease.Memory) { m.At = m.At.Add(time.Hour) }, 1, "is the clock right", true},
		{"the clock was set back a second", 0, func(m *lease.Memory) { m.At = m.At.Add(time.Second) }, 1, "", false},
		{"another host's", 0, nothing, 2, "about the host 192.168.0.1", false},
		{"another network's", 0, func(m *lease.Memory) { m.Prefix = "/other/" }, 1, "/other/", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, s *leasetest.Store) {
				r := lease.New(s, lease.Options{})
				m := remembered(t, s, r)
				pass(tt.after)
				tt.change(&m)
				err := r.CheckMemory(m, leasetest.Host(tt.host).PublicIP, lease.Uptime{})
				switch {
				case tt.want == "" && err != nil:
					t.Errorf("got %v, want none", err)
				case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
					t.Errorf("got %v, want an error with %q", err, tt.want)
				case errors.Is(err, lease.ErrStale) != tt.stale:
					t.Errorf("got %v, want one that matches ErrStale: %v", err, tt.stale)
				}
			})
		})
	}
}

// The wall clock is set while the machine runs: it goes by the clock of the boot.
func TestCheckMemoryWhenTheClockWasSet(t *testing.T) {
	const hour = time.Hour
	for _, tt := range []struct {
		name    string
		written lease.Uptime
		now     lease.Uptime
		wall    time.Duration // that passed by the clock on the wall since
		want    string
	}{
		{"set back a day, an hour later", lease.Uptime{Boot: "a", For: hour}, lease.Uptime{Boot: "a", For: 2 * hour}, -23 * hour, ""},
		{"set forward a day, an hour later", lease.Uptime{Boot: "a", For: hour}, lease.Uptime{Boot: "a", For: 2 * hour}, 25 * hour, ""},
		{"set back a day, a day later", lease.Uptime{Boot: "a", For: hour}, lease.Uptime{Boot: "a", For: 25 * hour}, 0, "good until"},
		{"set back half a minute, a moment too late", lease.Uptime{Boot: "a", For: hour}, lease.Uptime{Boot: "a", For: 25*hour + 20*time.Second}, -10 * time.Second, "good until"},
		{"another boot: the wall alone", lease.Uptime{Boot: "a", For: hour}, lease.Uptime{Boot: "b", For: 100 * hour}, hour, ""},
		{"another boot, and too late", lease.Uptime{Boot: "a", For: hour}, lease.Uptime{Boot: "b", For: 2 * hour}, 24 * hour, "good until"},
		{"another boot, and set back", lease.Uptime{Boot: "a", For: hour}, lease.Uptime{Boot: "b", For: 2 * hour}, -hour, "is the clock right"},
		{"no boot is known now", lease.Uptime{Boot: "a", For: hour}, lease.Uptime{}, 25 * hour, "good until"},
		{"none was known", lease.Uptime{}, lease.Uptime{For: hour}, 25 * hour, "good until"},
		{"from later in this boot", lease.Uptime{Boot: "a", For: 2 * hour}, lease.Uptime{Boot: "a", For: hour}, hour, "is the clock right"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, s *leasetest.Store) {
				r := lease.New(s, lease.Options{})
				m := remembered(t, s, r)
				m.At, m.Own.Expires = m.At.Add(-tt.wall), m.Own.Expires.Add(-tt.wall)
				m.Uptime = tt.written
				path := filepath.Join(t.TempDir(), "m.json")
				if err := m.WriteFile(path); err != nil {
					t.Fatal(err)
				}
				m, err := lease.ReadMemory(path)
				if err != nil {
					t.Fatal(err)
				}
				err = r.CheckMemory(m, leasetest.Host(1).PublicIP, tt.now)
				if (err == nil) != (tt.want == "") || err != nil && (!strings.Contains(err.Error(), tt.want) || !errors.Is(err, lease.ErrStale)) {
					t.Errorf("got %v, want %q", err, tt.want)
				}
			})
		})
	}
}

// Between the last word of the store and the writing of the file the wall clock may
// be set, and the host may sleep.
func TestUptimeAtAnEarlierMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		then := time.Now()
		time.Sleep(time.Hour)
		now := lease.Uptime{Boot: "a", For: 3 * time.Hour}
		for _, tt := range []struct {
			name string
			at   time.Time
			want lease.Uptime
		}{
			{"as both clocks say", then, lease.Uptime{Boot: "a", For: 2 * time.Hour}},
			{"by the wall it was longer ago", then.Round(0).Add(-time.Hour), lease.Uptime{Boot: "a", For: time.Hour}},
			{"before the boot: nobody knows", then.Add(-3 * time.Hour), lease.Uptime{}},
			{"in the future: now", then.Add(2 * time.Hour), now},
		} {
			if got := now.At(tt.at); got != tt.want {
				t.Errorf("%s: got %+v, want %+v", tt.name, got, tt.want)
			}
		}
	})
}

// A renewal is good news too: the file must not say that the lease ends.
func TestMemoryKnowsOfRenewals(t *testing.T) {
	bubble(t, func(t *testing.T, s *leasetest.Store) {
		r := lease.New(s, lease.Options{})
		m := remembered(t, s, r)
		leasetest.Keep(t, r, m.Own)
		pass(20 * time.Hour)
		now := r.Memory(m.Own, m.All)
		if left := time.Until(now.Own.Expires); left < 15*time.Hour || time.Since(now.At) > 6*time.Minute {
			t.Errorf("got %v left and true at %v, want a renewed lease", left, now.At)
		}
		s.Force(m.Own.Key, leasetest.Value(t, 1), 0)
		leasetest.Watch(t, r).Until(t, "a reservation", func(all lease.Snapshot) bool {
			now = r.Memory(m.Own, all)
			return now.Own.Reserved()
		})
		if !now.Own.Expires.IsZero() {
			t.Errorf("got a reservation that ends at %v", now.Own.Expires)
		}
	})
}
