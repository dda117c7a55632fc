// SPDX-License-Identifier: Apache-2.0

package lease_test

import (
	"context"
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
