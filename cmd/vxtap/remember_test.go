// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"vxtap/lease"
	"vxtap/lease/leasetest"
)

// remembering runs remember until the function that it returns is called.
func remembering(t *testing.T, s *segment) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.remember(ctx)
	}()
	return func() {
		cancel()
		<-done
	}
}

func inBubble(t *testing.T, body func(t *testing.T, store *leasetest.Store, log *bytes.Buffer)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		store := leasetest.New()
		defer store.Close()
		body(t, store, &log)
	})
}

// onlyThis returns what is on the disk.
func onlyThis(t *testing.T, s *segment) lease.Memory {
	t.Helper()
	m, err := lease.ReadMemory(s.d.memoryPath())
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestRememberSoonAndNotOften(t *testing.T) {
	inBubble(t, func(t *testing.T, store *leasetest.Store, log *bytes.Buffer) {
		s := knowing(t, store, log, leasetest.Config)
		stop := remembering(t, s)
		time.Sleep(time.Second)
		synctest.Wait()
		if m := onlyThis(t, s); len(m.All.Leases) != 2 {
			t.Errorf("got %+v after a second, want two leases", m.All)
		}
		written, last := 0, os.FileInfo(nil)
		for i := range 600 { // a minute
			tell(s, lease.Snapshot{Leases: []lease.Lease{*s.own.Load(), peer(t, byte(2+i%200))}, Revision: int64(10 + i)})
			time.Sleep(100 * time.Millisecond)
			synctest.Wait()
			now, err := os.Stat(s.d.memoryPath())
			if err != nil {
				t.Fatal(err)
			}
			if !os.SameFile(now, last) {
				written++
			}
			last = now
		}
		if written < 5 || written > 13 {
			t.Errorf("written %d times in a minute of changes, want once in five seconds", written)
		}
		tell(s, lease.Snapshot{Leases: []lease.Lease{*s.own.Load()}, Revision: 1000})
		stop()
		if m := onlyThis(t, s); m.All.Revision != 1000 {
			t.Errorf("got revision %d after the end, want all of it", m.All.Revision)
		}
	})
}

// Nothing new is not written, but the time is, now and then, and a renewal.
func TestRememberWhatNobodyTells(t *testing.T) {
	inBubble(t, func(t *testing.T, store *leasetest.Store, log *bytes.Buffer) {
		s := knowing(t, store, log, leasetest.Config)
		ctx, cancel := context.WithCancel(t.Context())
		kept := make(chan error, 1)
		go func() { kept <- s.hold(ctx) }()
		stop := remembering(t, s)
		time.Sleep(20 * time.Second)
		synctest.Wait()
		first := onlyThis(t, s)
		time.Sleep(30 * time.Minute)
		synctest.Wait()
		if m := onlyThis(t, s); !m.At.Equal(first.At) {
			t.Errorf("written again with nothing new in it")
		}
		time.Sleep(20 * time.Hour)
		synctest.Wait()
		m := onlyThis(t, s)
		if !m.At.After(first.At.Add(19*time.Hour)) || !m.Own.Expires.After(first.Own.Expires.Add(10*time.Hour)) {
			t.Errorf("got %v and %v a day later, %v and %v at first", m.At, m.Own.Expires, first.At, first.Own.Expires)
		}
		stop()
		cancel()
		if err := <-kept; err != nil {
			t.Error(err)
		}
	})
}

// What is lost must not be gone by the next time.
func TestRememberThatTheLeaseIsLost(t *testing.T) {
	inBubble(t, func(t *testing.T, store *leasetest.Store, log *bytes.Buffer) {
		s := knowing(t, store, log, leasetest.Config)
		stop := remembering(t, s)
		time.Sleep(time.Second)
		good := onlyThis(t, s)
		if err := s.d.registry.CheckMemory(good, s.d.at().vtep, uptime()); err != nil {
			t.Errorf("got %v, want a good one", err)
		}
		s.lost.Store(true)
		stop()
		ended := onlyThis(t, s)
		if err := s.d.registry.CheckMemory(ended, s.d.at().vtep, uptime()); !errors.Is(err, lease.ErrStale) {
			t.Errorf("got %v of a lost lease, want ErrStale", err)
		}
		if s.knows() != nil {
			t.Error("a new segment would go by a lost lease")
		}

		// The same before etcd has told anything: it was confirm that found out.
		s.told.Store(nil)
		s.known = &good
		remembering(t, s)()
		if err := s.d.registry.CheckMemory(onlyThis(t, s), s.d.at().vtep, uptime()); !errors.Is(err, lease.ErrStale) {
			t.Errorf("got %v, want ErrStale", err)
		}
	})
}

// A host that has another address removes the file under the old one; but another
// daemon on the machine, in the same directory, may have that address by now.
func TestFileUnderAnAddressOfBefore(t *testing.T) {
	for _, tt := range []struct {
		name  string
		whose byte // last byte of its MAC
		stays bool
	}{
		{"its own", 1, false},
		{"another daemon's", 7, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, store *leasetest.Store, log *bytes.Buffer) {
				s := knowing(t, store, log, leasetest.Config)
				w := &rememberer{segment: s}
				if !w.write() {
					t.Fatal("nothing was written")
				}
				old := w.path
				m := onlyThis(t, s)
				m.Own.Attrs.MAC[5] = tt.whose
				if err := m.WriteFile(old); err != nil {
					t.Fatal(err)
				}
				own := *s.own.Load()
				own.Attrs.PublicIP = netip.MustParseAddr("192.0.2.77")
				s.own.Store(&own)
				if !w.write() || w.path == old {
					t.Fatalf("written to %s, as before", w.path)
				}
				if _, err := lease.ReadMemory(old); (err == nil) != tt.stays {
					t.Errorf("the file under the old address: %v, want it there: %v", err, tt.stays)
				}
			})
		})
	}
}

// As long as nobody has confirmed it, nothing is written over what is there.
func TestRememberNothingUnconfirmed(t *testing.T) {
	inBubble(t, func(t *testing.T, store *leasetest.Store, log *bytes.Buffer) {
		s := knowing(t, store, log, leasetest.Config)
		s.known = s.knows()
		stop := remembering(t, s)
		time.Sleep(time.Minute)
		stop()
		if _, err := os.Stat(s.d.memoryPath()); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("got %v, want no file", err)
		}
	})
}

func TestRememberFailsWithOneLine(t *testing.T) {
	inBubble(t, func(t *testing.T, store *leasetest.Store, log *bytes.Buffer) {
		s := knowing(t, store, log, leasetest.Config)
		s.d.stateDir = "/proc/no such directory"
		stop := remembering(t, s)
		for i := range 20 {
			tell(s, lease.Snapshot{Leases: []lease.Lease{*s.own.Load()}, Revision: int64(20 + i)})
			time.Sleep(time.Minute)
		}
		stop()
		if got := strings.Count(log.String(), "is not remembered"); got != 1 {
			t.Errorf("got %d lines in 20 minutes, want one:\n%s", got, log)
		}
		s.d.stateDir = ""
		remembering(t, s)() // returns at once, and writes nowhere
	})
}
