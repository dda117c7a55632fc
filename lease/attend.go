// SPDX-License-Identifier: Apache-2.0

package lease

import (
	"context"
	"errors"
	"log/slog"
	"time"
)

// attention is one thing in the store that is read, and then watched until it is
// to be read again: all leases, the network config, the own key.
type attention struct {
	what string // for Alive, as "watch leases"
	log  *slog.Logger
	// follow reads and then watches, with Registry.watchAwhile. It ends with nil
	// when the next read is due, with ErrLost when there is nothing to attend to
	// any more, else when something breaks.
	follow func(context.Context, *turn) error
}

// turn is what a loop that follows something goes by: how long it waits when it has
// failed, and where it shows that it is alive.
type turn struct {
	backoff
	alive *sign
	again func() // to be called when the watch is there
}

// attend has a followed until ctx ends (nil), or until that returns ErrLost.
func (r *Registry) attend(ctx context.Context, a attention) error {
	var said pace
	warned := false
	t := &turn{backoff{least: 100 * time.Millisecond, most: 2 * time.Second}, r.signs.begin(a.what), func() {
		if warned {
			a.log.Info("watched again", "task", a.what)
		}
		warned = false
	}}
	defer t.alive.end()
	for {
		t.alive.within(turnWithin)
		err := a.follow(ctx, t)
		switch {
		case errors.Is(err, ErrLost):
			return err
		case ctx.Err() != nil:
			return nil
		case err == nil:
			continue
		}
		// That is over with the next read, or that says what is wrong.
		if !errors.Is(err, errBehind) && said.due(err.Error()) {
			warned = true
			a.log.Warn("not watched at present, what was last known stays", "task", a.what, "error", err)
		}
		if sleep(ctx, t.next()) != nil {
			return nil
		}
	}
}

// tellOf calls publish for news until ctx ends, with at least gap in between.
func (r *Registry) tellOf(ctx context.Context, what string, news <-chan struct{}, gap time.Duration, publish func()) {
	alive := r.signs.begin(what)
	defer alive.end()
	t := time.NewTicker(tick)
	defer t.Stop()
	for {
		alive.within(turnWithin)
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			continue
		case <-news:
		}
		publish()
		if sleep(ctx, gap) != nil {
			return
		}
	}
}

// watchAwhile watches what begins with prefix until the next full read is due or
// ctx ends (nil), or until the watch breaks.
func (r *Registry) watchAwhile(ctx context.Context, prefix string, from int64, t *turn, deliver func(Batch)) error {
	t.alive.within(r.o.Resync + turnWithin) // a quiet watch lasts until the next read
	timed, cancel := context.WithTimeout(ctx, jitter(r.o.Resync, r.o.Resync/5))
	defer cancel()
	err := r.watch(timed, prefix, from, &t.backoff, func(b Batch) {
		t.again()
		deliver(b)
	})
	if timed.Err() != nil {
		return nil
	}
	return err
}

// rollbackProof is how many full reads in a row must say that the store has
// gone back before it is believed. A store that was restored from a backup has;
// a single answer may be a fault of one member.
const rollbackProof = 3

var errRolledBack = errors.New("etcd answered with a revision older than one it has told before")

// rollbacks counts reads in a row that came from before what is known.
type rollbacks int

// check returns errRolledBack for a read at a revision that is older than what is
// known, and reports that it is to be believed after all.
func (n *rollbacks) check(revision, known int64) (back bool, err error) {
	if back = revision < known; back {
		if *n++; *n < rollbackProof {
			return true, errRolledBack
		}
	}
	*n = 0
	return back, nil
}
