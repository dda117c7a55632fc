// SPDX-License-Identifier: Apache-2.0

package lease

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// Keep renews l until ctx ends (nil) or the lease is lost (ErrLost, with why).
//
// The grant that l has is kept alive, at a third of its time to live or the
// renew margin before its end, whichever is sooner: nothing is written to the
// key, so that a thousand hosts' renewals are no news to anybody (flannel makes
// a new grant and overwrites its key, whoever holds it by now).
//
// Beside that our own key is watched. It is lost when it is deleted or expires,
// and when somebody writes another host's PublicIP to it. A value that is no
// lease, or ours but broken, is nobody's claim: it is replaced with our own (see
// mend). A store that does not answer
// is no loss: the lease is ours until the store says otherwise. If the key is
// put anew without a time to live, it has become a reservation and needs no
// renewal; if it is put by somebody with our own PublicIP and another MAC, two
// daemons run on one host, or another host was given our address by mistake,
// which Status tells. Writing over each other would only make it worse: our value
// is put back when the other has stood for a while (see restore), and not for ever.
func (r *Registry) Keep(ctx context.Context, l Lease) error {
	k := &keeper{r: r, own: l, grant: l.Grant, regrant: make(chan struct{}, 1), broken: make(chan struct{}, 1), strange: make(chan struct{}, 1)}
	r.setExpires(l.Expires)
	g, inner := errgroup.WithContext(ctx)
	g.Go(func() error { return k.renew(inner) })
	g.Go(func() error { return k.guard(inner) })
	g.Go(func() error { return k.mend(inner) })
	g.Go(func() error { return k.restore(inner) })
	g.Go(func() error { k.awaitSpace(inner); return nil })
	if err := g.Wait(); errors.Is(err, ErrLost) {
		r.setExpires(time.Time{})
		return fmt.Errorf("keep lease of %v: %w", l.Subnet, err)
	}
	return nil
}

// keeper is one call of Keep on its way.
type keeper struct {
	r   *Registry
	own Lease

	mu      sync.Mutex
	grant   GrantID       // that the key is attached to, as far as we know
	seen    int64         // the revision at which our key was last looked at
	regrant chan struct{} // tells renew that grant has changed
	junk    *junk         // what stands under our key and is nobody's claim; nil if none does
	broken  chan struct{} // tells mend that junk is set
	foreign *foreign      // what stands there and is somebody's, under our PublicIP; nil if nothing does
	strange chan struct{} // tells restore that foreign is set

	// Anybody may put our key, and must not make a line each time. Status
	// always has the latest.
	saidConflict, saidAnew pace
}

func (k *keeper) current() GrantID {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.grant
}

// tick is how often renew looks at the clock. A timer alone stands still while
// the host sleeps, and would fire hours late. A loop that waits for news shows
// as often that it is alive.
const tick = 10 * time.Second

// renew keeps the grant alive. It returns ErrLost, or nil when ctx ends.
func (k *keeper) renew(ctx context.Context) error {
	var said pace
	b := backoff{least: 100 * time.Millisecond, most: min(10*time.Second, k.r.o.TTL/8)}
	since, wait := time.Now(), time.Duration(0)
	alive := k.r.signs.begin("renew the lease")
	defer alive.end()
	for {
		alive.within(turnWithin)
		if left := k.left(since, wait); left > 0 {
			if changed, err := k.pause(ctx, left); err != nil {
				return nil
			} else if changed {
				wait = 0
			}
			continue
		}
		since = time.Now()
		grant := k.current()
		ttl, err := k.r.store.KeepAlive(ctx, grant)
		switch {
		case err == nil:
			k.r.setExpires(since.Add(ttl))
			wait = k.interval(ttl)
			b.reset()
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, ErrNoGrant):
			if err := k.ended(ctx, alive.reads(k.r.store), grant); err != nil {
				return err
			}
			wait = b.next()
		default:
			wait = b.next()
			if said.due(err.Error()) {
				k.r.log.Warn("lease not renewed", "subnet", k.own.Subnet, "expires", k.r.Status().LeaseExpires, "error", err)
			}
		}
	}
}

// left returns how long renew still has to wait. Elapsed time is the larger of
// what the monotonic clock says, which stands still while the host is
// suspended, and what the wall clock says, which jumps when it is set.
func (k *keeper) left(since time.Time, wait time.Duration) time.Duration {
	if k.current() == 0 {
		return tick // a reservation: nothing to renew until it is none
	}
	now := time.Now()
	return wait - max(now.Sub(since), now.Round(0).Sub(since.Round(0)))
}

// pause waits for d, at most a tick, and reports whether the grant has changed.
func (k *keeper) pause(ctx context.Context, d time.Duration) (changed bool, err error) {
	t := time.NewTimer(min(d, tick))
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false, ctx.Err()
	case <-k.regrant:
		return true, nil
	case <-t.C:
		return false, nil
	}
}

// interval returns how long after a renewal the next one is due. The random
// part keeps hosts that started together from renewing together.
func (k *keeper) interval(ttl time.Duration) time.Duration {
	d := ttl / 3
	if margin := k.r.o.RenewMargin; margin < ttl {
		d = min(d, ttl-margin)
	}
	return jitter(d, d/10)
}

// ended finds out what became of the key whose grant is no more.
func (k *keeper) ended(ctx context.Context, from Keys, grant GrantID) error {
	if k.current() != grant {
		return nil
	}
	if _, err := k.look(ctx, from); errors.Is(err, ErrLost) {
		return err
	}
	return nil
}

// guard watches our own key. It returns ErrLost, or nil when ctx ends.
func (k *keeper) guard(ctx context.Context) error {
	return k.r.attend(ctx, attention{what: "watch the own lease", log: k.r.log.With("subnet", k.own.Subnet), follow: k.follow})
}

// follow looks at our key and then watches it, until the next full look is due
// (nil), the watch breaks, or the lease is lost.
func (k *keeper) follow(ctx context.Context, t *turn) error {
	rev, err := k.look(ctx, t.alive.reads(k.r.store))
	if err != nil {
		return err
	}
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	var lost error
	err = k.r.watchAwhile(inner, k.own.Key, rev+1, t, func(batch Batch) {
		for _, ev := range batch.Events {
			if ev.Key != k.own.Key || lost != nil || k.knows(ev.Revision) {
				continue
			}
			if lost = k.see(ev, ev.Revision); lost != nil {
				cancel()
			}
		}
	})
	if lost != nil {
		return lost
	}
	return err
}

// look reads our key, from what has it, and returns the revision at which it did.
func (k *keeper) look(ctx context.Context, from Keys) (int64, error) {
	p, revision, err := readPair(ctx, from, k.own.Key)
	if err != nil {
		return 0, err
	}
	ev := Event{Pair: p}
	if p.Revision == 0 {
		ev = Event{Pair: Pair{Key: k.own.Key, Revision: revision}, Deleted: true}
	}
	return revision, k.see(ev, revision)
}

// knows reports whether the state of our key at revision is no news: renew may
// have looked since. A look is always believed, also from a store that was
// restored from a backup and counts from less.
func (k *keeper) knows(revision int64) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return revision <= k.seen
}

// see takes in the state of our key at a revision, and says what is worth it.
func (k *keeper) see(ev Event, revision int64) error {
	conflict, anew, err := k.take(ev, revision)
	if conflict != "" {
		k.r.log.Error("own lease was overwritten", "subnet", k.own.Subnet, "reason", conflict)
	}
	if anew {
		k.r.log.Info("own lease was put anew", "subnet", k.own.Subnet, "reserved", ev.Grant == 0)
	}
	return err
}

// take is see without the log, which may be slow and is not written under a
// lock. It returns what is to be said: of a conflict, and that there is a new
// grant.
func (k *keeper) take(ev Event, revision int64) (conflict string, anew bool, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.seen = revision
	if ev.Deleted {
		return "", false, fmt.Errorf("%w: the key %s was deleted, or its time ran out", ErrLost, k.r.path(ev.Key))
	}
	a, ipv6, err := parseAttrs(ev.Value)
	if isHost(a.PublicIP) && a.PublicIP != k.own.Attrs.PublicIP {
		return "", false, fmt.Errorf("%w: somebody wrote PublicIP %v to the key %s", ErrLost, a.PublicIP, k.r.path(ev.Key))
	}
	if k.junk = k.junkOf(ev, a, ipv6, err); k.junk != nil {
		k.noteForeign(false, 0) // mend has it
		// The grant stays the one that our value had, and will have again.
		k.r.setConflict(fmt.Sprintf("the value under %s is broken, so that peers leave this host out, and will be put back: %s", k.r.path(ev.Key), k.junk.reason))
		select {
		case k.broken <- struct{}{}:
		default:
		}
		return "", false, nil
	}
	conflict = k.r.conflictOf(k.own, a)
	k.noteForeign(conflict != "", ev.Revision)
	if !k.r.setConflict(conflict) || !k.saidConflict.due(conflict) {
		conflict = ""
	}
	if ev.Grant != k.grant {
		k.grant = ev.Grant
		k.r.setExpires(time.Time{}) // renew knows in a moment
		select {
		case k.regrant <- struct{}{}:
		default:
		}
		anew = k.saidAnew.due("")
	}
	return conflict, anew, nil
}

// conflictOf says in what a, a whole value found under our own key with our own
// PublicIP, is not what we published; "" if it is.
func (r *Registry) conflictOf(own Lease, a Attrs) string {
	what, theirs, ours := "MAC", any(a.MAC), any(own.Attrs.MAC)
	switch {
	case a.MAC != own.Attrs.MAC:
	case !own.dual():
		return ""
	case a.PublicIPv6 != own.Attrs.PublicIPv6:
		what, theirs, ours = "PublicIPv6", a.PublicIPv6, own.Attrs.PublicIPv6
	case a.IPv6MAC != own.Attrs.IPv6MAC:
		what, theirs, ours = "MAC for IPv6", a.IPv6MAC, own.Attrs.IPv6MAC
	default:
		return ""
	}
	return fmt.Sprintf("somebody with our PublicIP %v publishes %s %v under %s, ours is %v: stop the other daemon, on this host or one with our -public-ip by mistake; ours is put back when it writes no more",
		a.PublicIP, what, theirs, r.path(own.Key), ours)
}

// setConflict notes a conflict, or "" that there is none, and reports whether
// it is one and new.
func (r *Registry) setConflict(conflict string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	fresh := conflict != "" && conflict != r.conflict
	r.conflict = conflict
	return fresh
}
