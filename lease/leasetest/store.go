// SPDX-License-Identifier: Apache-2.0

// Package leasetest has a lease.Store in memory that loses connections, forgets
// history and expires grants when a test says so, and test bodies that any
// lease.Store must pass: the one in memory and a real etcd run the same.
package leasetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"vxtap/lease"
)

// ErrDown is what every call returns after Disconnect.
var ErrDown = errors.New("store is down")

// Store is a lease.Store in memory, with etcd's rules. Grants end by the clock,
// so that in a synctest bubble a day passes at once. It must be closed.
type Store struct {
	mu        sync.Mutex
	revision  int64
	compacted int64
	pairs     map[string]lease.Pair
	history   []lease.Event
	grants    map[lease.GrantID]*grant
	nextGrant lease.GrantID
	changed   chan struct{} // closed and replaced at every change
	down      bool
	outages   int
	hook      func(Call) error
	calls     map[string]int
}

type grant struct {
	ttl   time.Duration
	since time.Time // it was made or last kept alive
	timer *time.Timer
}

// Call is a call of the Store, for a hook. A call is seen twice: before it does
// anything, and after it has done it.
type Call struct {
	Op   string // "List", "Put", "Delete", "Move", "Watch", "Grant", "KeepAlive", "Left", "Revoke"
	Key  string
	Done bool // after
}

var _ lease.Store = (*Store)(nil)

// New returns an empty store, as etcd at revision 1.
func New() *Store {
	return &Store{
		revision:  1,
		pairs:     make(map[string]lease.Pair),
		grants:    make(map[lease.GrantID]*grant),
		nextGrant: 1000,
		changed:   make(chan struct{}),
		calls:     make(map[string]int),
	}
}

// Close stops the clocks of all grants, so that none ends after the test.
func (s *Store) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range s.grants {
		g.timer.Stop()
	}
}

// Path makes the store look like etcd with a prefix.
func (s *Store) Path(key string) string { return "/test/" + key }

// Disconnect makes every call fail, and every watch end, until Connect.
func (s *Store) Disconnect() { s.setDown(true) }

// Connect undoes Disconnect.
func (s *Store) Connect() { s.setDown(false) }

func (s *Store) setDown(down bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if down && !s.down {
		s.outages++
	}
	s.down = down
	s.wakeLocked()
}

// Hook calls f before and after every call. An error from before keeps the call
// from happening; one from after replaces its result, as when an answer gets
// lost. f must not call the store.
func (s *Store) Hook(f func(Call) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hook = f
}

// Calls returns how often op has been called.
func (s *Store) Calls(op string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[op]
}

// Grants returns how many grants are alive.
func (s *Store) Grants() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.grants)
}

// Compact forgets all history, and ends no watch that has seen it already.
func (s *Store) Compact() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.compacted = s.revision
	s.history = nil
}

// Force writes key whatever is there, as etcdctl put does, with a grant or, at
// 0, without.
func (s *Store) Force(key, value string, id lease.GrantID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.putLocked(key, []byte(value), id)
}

// Forget deletes key so that no watch hears of it, as a watch that loses an
// event.
func (s *Store) Forget(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deleteLocked(key)
	s.history = s.history[:len(s.history)-1]
}

// Expire ends a grant before its time.
func (s *Store) Expire(id lease.GrantID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.endLocked(id)
}

// Restore makes the store one that was restored from a backup: empty, at
// revision, its history gone, and started anew.
func (s *Store) Restore(revision int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pairs = make(map[string]lease.Pair)
	for _, g := range s.grants {
		g.timer.Stop()
	}
	s.grants = make(map[lease.GrantID]*grant)
	s.revision, s.compacted, s.history = revision, revision, nil
	s.outages++
	s.wakeLocked()
}

// call runs f as a call: counted, with the hooks around it.
func (s *Store) call(ctx context.Context, op, key string, f func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls[op]++
	if s.down {
		return ErrDown
	}
	if s.hook != nil {
		if err := s.hook(Call{Op: op, Key: key}); err != nil {
			return err
		}
	}
	err := f()
	if s.hook != nil {
		if herr := s.hook(Call{Op: op, Key: key, Done: true}); herr != nil {
			return herr
		}
	}
	return err
}

// List implements lease.Keys.
func (s *Store) List(ctx context.Context, prefix string, take func(lease.Pair)) (int64, error) {
	var revision int64
	var pairs []lease.Pair
	err := s.call(ctx, "List", prefix, func() error {
		revision = s.revision
		for _, p := range s.pairs {
			if strings.HasPrefix(p.Key, prefix) {
				pairs = append(pairs, cut(p))
			}
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	slices.SortFunc(pairs, func(a, b lease.Pair) int { return strings.Compare(a.Key, b.Key) })
	for _, p := range pairs {
		take(p)
	}
	return revision, nil
}

// cut returns p as a Store may hand it over.
func cut(p lease.Pair) lease.Pair {
	p.Value = p.Value[:min(len(p.Value), lease.MaxValue+1)]
	return p
}

// Put implements lease.Keys.
func (s *Store) Put(ctx context.Context, key string, value []byte, ifRevision int64, id lease.GrantID) (int64, error) {
	var rev int64
	err := s.call(ctx, "Put", key, func() error {
		if s.pairs[key].Revision != ifRevision {
			return fmt.Errorf("put %s: %w", key, lease.ErrConflict)
		}
		if _, ok := s.grants[id]; id != 0 && !ok {
			return fmt.Errorf("put %s: %w", key, lease.ErrNoGrant)
		}
		s.putLocked(key, value, id)
		rev = s.revision
		return nil
	})
	if err != nil {
		return 0, err
	}
	return rev, nil
}

// Delete implements lease.Keys.
func (s *Store) Delete(ctx context.Context, key string, ifRevision int64) error {
	return s.call(ctx, "Delete", key, func() error {
		if p, ok := s.pairs[key]; !ok || p.Revision != ifRevision {
			return fmt.Errorf("delete %s: %w", key, lease.ErrConflict)
		}
		s.deleteLocked(key)
		return nil
	})
}

// Watch implements lease.Keys.
func (s *Store) Watch(ctx context.Context, prefix string, from int64, deliver func(lease.Batch)) error {
	var outages int
	err := s.call(ctx, "Watch", prefix, func() error {
		outages = s.outages
		return nil
	})
	if err != nil {
		return err
	}
	for first := true; ; first = false {
		b, changed, err := s.since(prefix, from, outages)
		if err != nil {
			return err
		}
		if first || len(b.Events) > 0 {
			deliver(b)
		}
		from = max(from, b.Revision+1)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}

// since returns what happened from revision from on, and a channel that is
// closed when more has. A watch does not outlive an outage, however short.
func (s *Store) since(prefix string, from int64, outages int) (lease.Batch, <-chan struct{}, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.outages != outages:
		return lease.Batch{}, nil, ErrDown
	case from <= s.compacted:
		return lease.Batch{}, nil, lease.ErrCompacted
	}
	b := lease.Batch{Revision: s.revision}
	for _, ev := range s.history {
		if ev.Revision >= from && strings.HasPrefix(ev.Key, prefix) {
			ev.Pair = cut(ev.Pair)
			b.Events = append(b.Events, ev)
		}
	}
	return b, s.changed, nil
}

// Grant implements lease.Grants.
func (s *Store) Grant(ctx context.Context, ttl time.Duration) (lease.GrantID, time.Duration, error) {
	var id lease.GrantID
	err := s.call(ctx, "Grant", "", func() error {
		s.nextGrant++
		id = s.nextGrant
		s.grants[id] = &grant{ttl, time.Now(), time.AfterFunc(ttl, func() { s.Expire(id) })}
		return nil
	})
	if err != nil {
		return 0, 0, err
	}
	return id, ttl, nil
}

// KeepAlive implements lease.Grants.
func (s *Store) KeepAlive(ctx context.Context, id lease.GrantID) (time.Duration, error) {
	var ttl time.Duration
	err := s.call(ctx, "KeepAlive", "", func() error {
		g, ok := s.grants[id]
		if !ok {
			return lease.ErrNoGrant
		}
		g.timer.Reset(g.ttl)
		g.since = time.Now()
		ttl = g.ttl
		return nil
	})
	return ttl, err
}

// Left implements lease.Grants.
func (s *Store) Left(ctx context.Context, id lease.GrantID) (time.Duration, error) {
	var left time.Duration
	err := s.call(ctx, "Left", "", func() error {
		g, ok := s.grants[id]
		if !ok {
			return lease.ErrNoGrant
		}
		left = g.ttl - time.Since(g.since)
		return nil
	})
	return left, err
}

// Revoke implements lease.Grants.
func (s *Store) Revoke(ctx context.Context, id lease.GrantID) error {
	return s.call(ctx, "Revoke", "", func() error {
		s.endLocked(id)
		return nil
	})
}

func (s *Store) putLocked(key string, value []byte, id lease.GrantID) {
	s.revision++
	p := lease.Pair{Key: key, Value: slices.Clone(value), Created: s.revision, Revision: s.revision, Grant: id}
	if old, ok := s.pairs[key]; ok {
		p.Created = old.Created
	}
	s.pairs[key] = p
	s.happenedLocked(lease.Event{Pair: p})
}

func (s *Store) deleteLocked(key string) {
	if _, ok := s.pairs[key]; !ok {
		return
	}
	delete(s.pairs, key)
	s.revision++
	s.happenedLocked(lease.Event{Pair: lease.Pair{Key: key, Revision: s.revision}, Deleted: true})
}

func (s *Store) endLocked(id lease.GrantID) {
	g, ok := s.grants[id]
	if !ok {
		return
	}
	g.timer.Stop()
	delete(s.grants, id)
	for key, p := range s.pairs {
		if p.Grant == id {
			s.deleteLocked(key)
		}
	}
}

func (s *Store) happenedLocked(ev lease.Event) {
	s.history = append(s.history, ev)
	s.wakeLocked()
}

func (s *Store) wakeLocked() {
	close(s.changed)
	s.changed = make(chan struct{})
}
