// SPDX-License-Identifier: Apache-2.0

package lease_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"vxtap/lease"
	"vxtap/lease/leasetest"
)

// stuckStore breaks the promise that every call ends by itself, once it is told.
type stuckStore struct {
	*leasetest.Store
	list, keepAlive atomic.Bool
}

func stuck(ctx context.Context, b *atomic.Bool) error {
	if b.Load() {
		<-ctx.Done()
	}
	return ctx.Err()
}

func (s *stuckStore) List(ctx context.Context, prefix string, take func(lease.Pair)) (int64, error) {
	if err := stuck(ctx, &s.list); err != nil {
		return 0, err
	}
	return s.Store.List(ctx, prefix, take)
}

func (s *stuckStore) KeepAlive(ctx context.Context, id lease.GrantID) (time.Duration, error) {
	if err := stuck(ctx, &s.keepAlive); err != nil {
		return 0, err
	}
	return s.Store.KeepAlive(ctx, id)
}

// A store that is away is nothing that a restart mends, and no quiet one is
// mistaken for it.
func TestAliveWhateverTheStoreDoes(t *testing.T) {
	bubble(t, func(t *testing.T, s *leasetest.Store) {
		r := lease.New(s, lease.Options{})
		l := leasetest.Acquire(t, r, 1)
		leasetest.Watch(t, r)
		leasetest.Keep(t, r, l)
		for minute := range 24 * 60 {
			switch minute {
			case 600:
				s.Disconnect()
			case 900:
				s.Connect()
			}
			pass(time.Minute)
			if err := r.Alive(); err != nil {
				t.Fatalf("after %d minutes: %v", minute, err)
			}
		}
	})
}

// slowStore hands what is below subnets over in pieces, on a slow line: what
// strangers have put there comes first.
type slowStore struct {
	*leasetest.Store
	pieces int
}

func (s *slowStore) List(ctx context.Context, prefix string, take func(lease.Pair)) (int64, error) {
	for n := 0; n < s.pieces && strings.HasPrefix(prefix, "subnets"); n++ {
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-time.After(20 * time.Second):
		}
		take(lease.Pair{Key: fmt.Sprintf("subnets-%03d", n), Value: []byte("x"), Created: 1, Revision: 1})
	}
	return s.Store.List(ctx, prefix, take)
}

// A flood that takes long to be read is nothing that a restart mends: it would begin
// again. What has been read for once does not excuse the watch after it.
func TestAliveWhileMuchIsRead(t *testing.T) {
	bubble(t, func(t *testing.T, inner *leasetest.Store) {
		s := &slowStore{inner, 60}
		r := lease.New(s, lease.Options{})
		leasetest.Keep(t, r, leasetest.Acquire(t, lease.New(inner, lease.Options{}), 2))
		got := make(chan lease.Lease, 1)
		go func() { got <- leasetest.Acquire(t, r, 1) }()
		w := leasetest.Watch(t, r)
		for ten := range 6 * 120 { // two reads to acquire, and four rounds of the watch
			pass(10 * time.Second)
			if err := r.Alive(); err != nil {
				t.Fatalf("after %v: %v", time.Duration(ten)*10*time.Second, err)
			}
		}
		if last, _ := w.Last(); len(got) != 1 || len(last.Rejected) != s.pieces {
			t.Errorf("got a lease: %v, and %d rejected keys", len(got) == 1, len(last.Rejected))
		}
	})
}

func TestAliveNoticesALoopThatHangs(t *testing.T) {
	tests := []struct {
		name  string
		hang  func(*stuckStore)
		after time.Duration // at the latest
		want  string
	}{
		{"renewing", func(s *stuckStore) { s.keepAlive.Store(true) }, 8*time.Hour + 2*time.Minute, `the loop "renew the lease" does not turn: `},
		{"reading leases", func(s *stuckStore) { s.list.Store(true) }, 12 * time.Minute, `the loop "watch `},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, inner *leasetest.Store) {
				s := &stuckStore{Store: inner}
				r := lease.New(s, lease.Options{})
				l := leasetest.Acquire(t, r, 1)
				leasetest.Watch(t, r)
				leasetest.Keep(t, r, l)
				pass(time.Minute)
				if err := r.Alive(); err != nil {
					t.Error(err)
				}
				tt.hang(s)
				pass(tt.after)
				if err := r.Alive(); err == nil || !strings.HasPrefix(err.Error(), tt.want) {
					t.Errorf("got %v, want %q", err, tt.want)
				}
			})
		})
	}
}

func TestAliveNoticesAPublisherThatHangs(t *testing.T) {
	bubble(t, func(t *testing.T, s *leasetest.Store) {
		r := lease.New(s, lease.Options{})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- r.Watch(ctx, func(lease.Snapshot) { <-ctx.Done() }) }()
		pass(time.Second)
		if err := r.Alive(); err != nil {
			t.Error(err)
		}
		pass(2 * time.Minute)
		if err, want := r.Alive(), `the loop "publish leases" does not turn: it is late by 1m`; err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := r.Alive(); err != nil {
			t.Errorf("got %v when nothing runs", err)
		}
	})
}
