// SPDX-License-Identifier: Apache-2.0

package lease

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"
)

// contact is a Store that remembers when it last answered, and why it did not.
type contact struct {
	Store

	mu   sync.Mutex
	last Status
}

var _ Store = (*contact)(nil)

func (c *contact) status() Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last
}

// answered reports whether err comes from a store that is there and has
// decided, so that asking the same again makes no sense.
func answered(err error) bool {
	return err == nil || errors.Is(err, ErrConflict) || errors.Is(err, ErrNoGrant) ||
		errors.Is(err, ErrCompacted) || errors.Is(err, ErrRefused)
}

// note books the outcome of a call. A call that its own caller gave up says
// nothing about the store.
func (c *contact) note(ctx context.Context, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case errors.Is(err, ErrNoSpace):
		c.last.Connected, c.last.LastContact = true, time.Now()
		c.last.NoSpace, c.last.LastError = err.Error(), err.Error()
	case answered(err) && !errors.Is(err, ErrRefused):
		c.last.Connected, c.last.LastContact = true, time.Now()
	case ctx.Err() == nil:
		c.last.Connected, c.last.LastError = false, err.Error()
	}
}

// noteWrite is note for what a store without space refuses. A store that has
// decided on anything else has space: it looks at that first.
func (c *contact) noteWrite(ctx context.Context, err error) {
	c.note(ctx, err)
	if !answered(err) || errors.Is(err, ErrRefused) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last.NoSpace = ""
}

func (c *contact) List(ctx context.Context, prefix string, take func(Pair)) (int64, error) {
	rev, err := c.Store.List(ctx, prefix, take)
	c.note(ctx, err)
	return rev, err
}

func (c *contact) Put(ctx context.Context, key string, value []byte, ifRevision int64, grant GrantID) (int64, error) {
	rev, err := c.Store.Put(ctx, key, value, ifRevision, grant)
	c.noteWrite(ctx, err)
	return rev, err
}

func (c *contact) Delete(ctx context.Context, key string, ifRevision int64) error {
	err := c.Store.Delete(ctx, key, ifRevision)
	c.note(ctx, err)
	return err
}

func (c *contact) Move(ctx context.Context, x Exchange) (int64, error) {
	rev, err := c.Store.Move(ctx, x)
	c.noteWrite(ctx, err)
	return rev, err
}

func (c *contact) Watch(ctx context.Context, prefix string, from int64, deliver func(Batch)) error {
	err := c.Store.Watch(ctx, prefix, from, func(b Batch) {
		c.note(ctx, nil)
		deliver(b)
	})
	c.note(ctx, err)
	return err
}

func (c *contact) Grant(ctx context.Context, ttl time.Duration) (GrantID, time.Duration, error) {
	id, given, err := c.Store.Grant(ctx, ttl)
	c.noteWrite(ctx, err)
	return id, given, err
}

func (c *contact) KeepAlive(ctx context.Context, id GrantID) (time.Duration, error) {
	ttl, err := c.Store.KeepAlive(ctx, id)
	c.note(ctx, err)
	return ttl, err
}

func (c *contact) Left(ctx context.Context, id GrantID) (time.Duration, error) {
	left, err := c.Store.Left(ctx, id)
	c.note(ctx, err)
	return left, err
}

func (c *contact) Revoke(ctx context.Context, id GrantID) error {
	err := c.Store.Revoke(ctx, id)
	c.note(ctx, err)
	return err
}

// backoff gives growing waits, from least to most, each with up to half of it
// taken off at random, so that a thousand hosts that lost one store do not come
// back in step.
type backoff struct {
	least, most time.Duration
	last        time.Duration
}

func (b *backoff) next() time.Duration {
	b.last = min(max(2*b.last, b.least), b.most)
	return jitter(b.last, b.last/2)
}

func (b *backoff) reset() { b.last = 0 }

// watch is store.Watch for whoever reads everything anew when it breaks, and
// waits by b before that. b starts afresh only after a watch that was of use:
// it delivered a change, or lived longer than the longest wait. A store that
// grants a watch and breaks it at once would otherwise be read in full ten
// times a second by every host.
//
// A store that has not come to from yet, of which the read was, has gone back since,
// or the watch is at a member that lags. It would say nothing until it is there
// again, which after a restore may be never: errBehind.
func (r *Registry) watch(ctx context.Context, prefix string, from int64, b *backoff, deliver func(Batch)) error {
	since, useful, behind := time.Now(), false, false
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	err := r.store.Watch(inner, prefix, from, func(batch Batch) {
		if behind = behind || batch.Revision < from-1; behind {
			cancel()
			return
		}
		from = max(from, batch.Revision+1)
		useful = useful || len(batch.Events) > 0
		deliver(batch)
	})
	if behind && ctx.Err() == nil {
		return errBehind
	}
	if useful || time.Since(since) > b.most {
		b.reset()
	}
	return err
}

// errBehind says that a watch has begun before what was read.
var errBehind = errors.New("etcd has not come to what it has told before")

// jitter returns d less a random part of at most spread.
func jitter(d, spread time.Duration) time.Duration {
	if spread <= 0 {
		return d
	}
	return d - rand.N(spread)
}

// sleep waits for d, or returns ctx's error.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// pace says when a state that lasts is worth another log line: at once, then
// every 30 s; sooner if the reason is another, but never in a flood. The zero
// value is ready.
type pace struct {
	last   time.Time
	reason string
}

func (p *pace) due(reason string) bool {
	since := time.Since(p.last)
	if since < 5*time.Second || (since < 30*time.Second && reason == p.reason) {
		return false
	}
	p.last, p.reason = time.Now(), reason
	return true
}
