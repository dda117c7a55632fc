// SPDX-License-Identifier: Apache-2.0

package lease

import (
	"context"
	"encoding/json"
	"errors"
	"time"
)

const (
	// restoreAfter is how long a foreign value must have stood unchanged before ours
	// is put in its place; after each time twice as long, up to a day.
	restoreAfter = time.Minute
	restoreMost  = 24 * time.Hour
	// maxRestores bounds how often one Keep does so. Two daemons that run under one
	// PublicIP by mistake both think that they are right: each writes ten times in
	// 17 hours, and then never again. A mistake that somebody mends before that is
	// mended in etcd as well.
	maxRestores = 10
)

// foreign is a whole value under our own key, with our own PublicIP, that we did
// not write.
type foreign struct {
	revision int64
	since    time.Time // when we saw it first
}

// noteForeign keeps in mind what stands under our key: there is a conflict, or
// not. The caller holds k.mu.
func (k *keeper) noteForeign(conflict bool, revision int64) {
	switch {
	case !conflict:
		k.foreign = nil
		return
	case k.foreign == nil || k.foreign.revision != revision:
		k.foreign = &foreign{revision, time.Now()}
	}
	select {
	case k.strange <- struct{}{}:
	default:
	}
}

func (k *keeper) currentForeign() *foreign {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.foreign
}

// restore puts our own value back where a foreign one stands under our key and
// whoever wrote it writes no more: a daemon that was given our PublicIP by
// mistake and has ended leaves peers with its addresses for ever. It returns
// ErrLost, or nil when ctx ends or it has written often enough.
func (k *keeper) restore(ctx context.Context) error {
	var failed pace
	b := backoff{least: 100 * time.Millisecond, most: mendGap}
	wait := restoreAfter
	for n := 0; n < maxRestores; {
		f, err := k.awaitForeign(ctx, wait)
		if err != nil {
			return nil
		}
		wrote, err := k.putOver(ctx, f)
		switch {
		case errors.Is(err, ErrLost):
			return err
		case ctx.Err() != nil:
			return nil
		case err != nil && failed.due(err.Error()):
			k.r.log.Warn("own lease is another's and is not put back yet", "subnet", k.own.Subnet, "error", err)
		case wrote && err == nil:
			k.r.log.Warn("own lease was another's and is put back", "subnet", k.own.Subnet, "times", n+1, "most", maxRestores)
		}
		if wrote { // or it may have
			n++
			wait = min(2*wait, restoreMost)
		}
		if err == nil {
			b.reset()
		} else if sleep(ctx, b.next()) != nil {
			return nil
		}
	}
	k.r.log.Error("own lease was put back often enough: what stands there from now on stays until this daemon starts again", "subnet", k.own.Subnet, "times", maxRestores)
	return nil
}

// awaitForeign waits until a foreign value has stood unchanged for that long, and
// returns it, or ctx's error.
func (k *keeper) awaitForeign(ctx context.Context, long time.Duration) (*foreign, error) {
	for {
		f := k.currentForeign()
		if f == nil {
			select {
			case <-ctx.Done():
				return nil, ctx.Err()
			case <-k.strange:
			}
			continue
		}
		if left := time.Until(f.since.Add(long)); left > 0 {
			if err := sleep(ctx, left); err != nil {
				return nil, err
			}
			continue // it may be another one by now, or none
		}
		return f, ctx.Err()
	}
}

// putOver writes our value over f if f still stands there, and reports whether it
// did, or may have.
func (k *keeper) putOver(ctx context.Context, f *foreign) (wrote bool, err error) {
	if _, err := k.look(ctx, k.r.store); err != nil {
		return false, err
	}
	if now := k.currentForeign(); now == nil || now.revision != f.revision {
		return false, nil
	}
	value, err := json.Marshal(k.own.Attrs)
	if err != nil {
		return false, err
	}
	grant := k.current()
	if grant != 0 {
		// Not the one that came with the foreign value: whoever made it may end it.
		if grant, err = k.freshGrant(ctx); err != nil {
			return false, err
		}
	}
	_, err = k.r.store.Put(ctx, k.own.Key, value, f.revision, grant)
	if errors.Is(err, ErrConflict) {
		return false, nil
	}
	if err != nil {
		return true, err
	}
	k.restored(f)
	return true, nil
}

// restored forgets f, which is written over. What has been seen since stays.
func (k *keeper) restored(f *foreign) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.foreign != nil && k.foreign.revision == f.revision {
		k.foreign = nil
		k.r.setConflict("")
	}
}
