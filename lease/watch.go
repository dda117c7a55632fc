// SPDX-License-Identifier: Apache-2.0

package lease

import (
	"context"
	"slices"
	"sync"
	"time"
)

// Watch follows all leases: publish gets a Snapshot at the start, as soon as
// there is one, and after every change, from one goroutine, never two at once.
// Changes that come while publish runs are joined in the next Snapshot. Watch
// returns only when ctx ends, with nil.
//
// All leases are read in one go, or in pieces of one revision where there are very
// many, then changes are watched from the next revision on. When the watch breaks
// for whatever reason, and every few minutes in any case, all are read again and
// compared value by value: a watch has been known to lose events, to repeat old
// ones, and to miss deletions next to a compaction (etcd issues 15271, 17529, 18089,
// 19179). While the store is away, what was last known stays.
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
	book     *book // an entry of it never changes, it is replaced
	revision int64 // everything up to here is in book
	filled   bool  // book has been read at least once

	rollbacks rollbacks
}

// publishGap is the least time between two calls of publish. The first of a
// burst of changes is published at once, the rest together.
const publishGap = time.Millisecond

// current returns the leases as they are now.
func (f *follower) current() Snapshot {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.book.snapshotIn(f.r.takeSpare(), f.revision)
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
func (f *follower) follow(ctx context.Context, t *turn) error {
	read, err := book{}.read(ctx, t.alive.reads(f.r.store))
	if err != nil {
		return err
	}
	if err := f.replace(read); err != nil {
		return err
	}
	return f.r.watchAwhile(ctx, subnetsList, read.revision+1, t, f.apply)
}

// replace takes in a full read.
func (f *follower) replace(read *book) error {
	known := f.known()
	back, err := f.rollbacks.check(read.revision, known)
	if err != nil {
		return err
	}
	if back {
		f.r.log.Warn("etcd has gone back in time: restored from a backup?", "from", known, "to", read.revision)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.filled || f.book.more != read.more || !slices.EqualFunc(f.book.entries, read.entries, sameValue) {
		f.changed()
	}
	f.book, f.revision, f.filled = read, read.revision, true
	return nil
}

// known returns the revision up to which everything is in book. Only run's
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
		if f.book.set(ev) {
			news = true
		}
	}
	f.revision = max(f.revision, batch.Revision)
	if news {
		f.changed()
	}
}
