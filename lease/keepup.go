// SPDX-License-Identifier: Apache-2.0

package lease

import (
	"context"
	"time"
)

// source is a part of the store that is kept up with.
type source struct {
	sign   string // name of the loop, for Alive
	prefix string
	lapse  func(error) // says that it cannot be watched at present, and why
	// replace takes in a full read, and returns the revision to watch from, or why
	// it is not believed. apply takes in what the watch delivers. Both are called
	// by one goroutine.
	replace func(Listing) (from int64, err error)
	apply   func(Batch)
}

// keepUp reads and watches x until ctx ends: after whatever breaks the watch, and
// every few minutes in any case, it is read again.
func (r *Registry) keepUp(ctx context.Context, x source) {
	var said pace
	b := backoff{least: 100 * time.Millisecond, most: 2 * time.Second}
	alive := r.signs.begin(x.sign)
	defer alive.end()
	for {
		alive.within(r.o.Resync + turnWithin) // a quiet watch lasts until the next full read
		err := r.readAndWatch(ctx, x, &b)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			continue
		}
		if said.due(err.Error()) {
			x.lapse(err)
		}
		if sleep(ctx, b.next()) != nil {
			return
		}
	}
}

// readAndWatch reads x and then watches it, until the next full read is due (nil)
// or something breaks.
func (r *Registry) readAndWatch(ctx context.Context, x source, b *backoff) error {
	l, err := r.store.List(ctx, x.prefix)
	if err != nil {
		return err
	}
	from, err := x.replace(l)
	if err != nil {
		return err
	}
	timed, cancel := context.WithTimeout(ctx, jitter(r.o.Resync, r.o.Resync/5))
	defer cancel()
	err = r.watch(timed, x.prefix, from+1, b, x.apply)
	if timed.Err() != nil {
		return nil
	}
	return err
}
