// SPDX-License-Identifier: Apache-2.0

package lease

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"
)

// Watch follows all leases: publish gets a Snapshot at the start, as soon as
// there is one, and after every change, from one goroutine, never two at once.
// Changes that come while publish runs are joined in the next Snapshot. Watch
// returns only when ctx ends, with nil.
//
// All leases are read in one go, then changes are watched from the next
// revision on. When the watch breaks for whatever reason, and every few minutes
// in any case, all are read again and compared value by value: a watch has been
// known to lose events, to repeat old ones, and to miss deletions next to a
// compaction (etcd issues 15271, 17529, 18089, 19179). While the store is away,
// what was last known stays.
func (r *Registry) Watch(ctx context.Context, publish func(Snapshot)) error {
	f := &follower{r: r, news: make(chan struct{}, 1)}
	var wg sync.WaitGroup
	wg.Go(func() { r.tellOf(ctx, "publish leases", f.news, publishGap, func() { publish(f.current()) }) })
	err := r.attend(ctx, attention{what: "watch leases", log: r.log, follow: f.follow})
	wg.Wait()
	return err
}

// follower is one call of Watch on its way.
type follower struct {
	r    *Registry
	news chan struct{} // tells publish that there is something

	mu       sync.Mutex
	entries  []*entry // in key order; an entry never changes, it is replaced
	revision int64    // everything up to here is in entries
	filled   bool     // entries have been read at least once

	rollbacks rollbacks
}

// publishGap is the least time between two calls of publish. The first of a
// burst of changes is published at once, the rest together.
const publishGap = time.Millisecond

// current returns the leases as they are now.
func (f *follower) current() Snapshot {
	f.mu.Lock()
	defer f.mu.Unlock()
	return snapshotIn(f.r.takeSpare(), f.entries, f.revision)
}

// Reuse takes back a Snapshot that Watch has given and that nobody reads any
// more: the next one is put into its memory. With ten thousand leases it is two
// megabytes, which each change of one of them would ask for anew.
func (r *Registry) Reuse(s Snapshot) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.spare = s.Leases
}

func (r *Registry) takeSpare() []Lease {
	r.mu.Lock()
	defer r.mu.Unlock()
	spare := r.spare
	r.spare = nil
	return spare
}

func (f *follower) changed() {
	select {
	case f.news <- struct{}{}:
	default: // it is told already, and will take all there is
	}
}

// follow reads all leases and then watches them, until the next full read is
// due (nil) or something breaks.
func (f *follower) follow(ctx context.Context, b *backoff) error {
	l, err := f.r.store.List(ctx, subnetsList)
	if err != nil {
		return err
	}
	from, err := f.replace(l)
	if err != nil {
		return err
	}
	return f.r.watchAwhile(ctx, subnetsList, from+1, b, f.apply)
}

// replace takes in a full read and returns the revision to watch from.
func (f *follower) replace(l Listing) (int64, error) {
	known := f.known()
	back, err := f.rollbacks.check(l.Revision, known)
	if err != nil {
		return 0, err
	}
	if back {
		f.r.log.Warn("etcd has gone back in time: restored from a backup?", "from", known, "to", l.Revision)
	}
	entries := readEntries(l)
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.filled || !slices.EqualFunc(f.entries, entries, sameValue) {
		f.changed()
	}
	f.entries, f.revision, f.filled = entries, l.Revision, true
	return l.Revision, nil
}

// known returns the revision up to which everything is in entries. Only run's
// goroutine changes it.
func (f *follower) known() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.revision
}

// apply takes in what a watch delivered. What is older than what is known is
// left: it is known already, or wrong.
func (f *follower) apply(batch Batch) {
	f.mu.Lock()
	defer f.mu.Unlock()
	news := false
	for _, ev := range batch.Events {
		if ev.Revision <= f.revision {
			continue
		}
		if f.set(ev) {
			news = true
		}
	}
	f.revision = max(f.revision, batch.Revision)
	if news {
		f.changed()
	}
}

// set takes in one change and reports whether it is news.
func (f *follower) set(ev Event) bool {
	i, found := slices.BinarySearchFunc(f.entries, ev.Key, func(e *entry, key string) int { return strings.Compare(e.Key, key) })
	switch {
	case ev.Deleted && !found:
		return false
	case ev.Deleted:
		f.entries = slices.Delete(f.entries, i, i+1)
		return true
	}
	e := readEntry(ev.Pair)
	if !found {
		f.entries = slices.Insert(f.entries, i, e)
		return true
	}
	news := !sameValue(f.entries[i], e)
	f.entries[i] = e
	return news
}
