// SPDX-License-Identifier: Apache-2.0

package lease

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// junk is a value under our own key that is nobody's claim to it.
type junk struct {
	revision int64
	reason   string
}

// isHost reports whether a lease can name a host by ip.
func isHost(ip netip.Addr) bool {
	_, err := parseVTEP(ip.String())
	return err == nil
}

// junkOf returns why ev, which parses to a and, with its IPv6 half's, to err, is
// nobody's claim to our key; nil if it is somebody's. The caller has seen to it
// that a names no other host.
func (k *keeper) junkOf(ev Event, a Attrs, ipv6, err error) *junk {
	switch {
	case err != nil:
		return &junk{ev.Revision, err.Error()}
	case !isHost(a.PublicIP):
		return &junk{ev.Revision, "it names no host"}
	case a.BackendType != backendVXLAN:
		return &junk{ev.Revision, fmt.Sprintf("it is of the backend %q", a.BackendType)}
	case !k.own.dual():
	case ipv6 != nil:
		return &junk{ev.Revision, "its IPv6 half is broken: " + ipv6.Error()}
	case !a.PublicIPv6.IsValid():
		return &junk{ev.Revision, "it has no IPv6 half"}
	}
	return nil
}

// mendGap is the least time between two writes of our value over junk. Whoever
// keeps writing junk must not make us write as fast: every peer hears of it.
const mendGap = 10 * time.Second

// mend puts our own value back where junk stands under our key. To give the
// subnet up for it would cut off every container that lives there. It returns
// ErrLost, or nil when ctx ends.
//
// What is written over is looked at right before, and the write is a
// compare-and-swap at the revision of that look, so that the claim of another
// host that comes in between stays.
func (k *keeper) mend(ctx context.Context) error {
	var said, failed pace
	var last time.Time // of a write that was tried, or may have happened
	b := backoff{least: 100 * time.Millisecond, most: mendGap}
	for {
		if k.awaitJunk(ctx) != nil || sleep(ctx, time.Until(last.Add(mendGap))) != nil {
			return nil
		}
		j, err := k.putBack(ctx)
		switch {
		case errors.Is(err, ErrLost):
			return err
		case ctx.Err() != nil || (err == nil && j == nil):
			continue
		case err == nil:
			last = time.Now()
			b.reset()
			if said.due("") {
				k.r.log.Warn("own lease was overwritten and is put back", "subnet", k.own.Subnet, "reason", j.reason)
			}
			continue
		case j != nil && !errors.Is(err, ErrConflict):
			last = time.Now()
		}
		if failed.due(err.Error()) {
			k.r.log.Warn("own lease was overwritten and is not put back yet", "subnet", k.own.Subnet, "error", err)
		}
		if sleep(ctx, b.next()) != nil {
			return nil
		}
	}
}

// awaitJunk waits until junk stands under our key, or returns ctx's error.
func (k *keeper) awaitJunk(ctx context.Context) error {
	for k.currentJunk() == nil {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-k.broken:
		}
	}
	return ctx.Err()
}

func (k *keeper) currentJunk() *junk {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.junk
}

// putBack writes our value over junk once, and returns the junk: nil if there
// is none, or if nobody knows since the look failed.
func (k *keeper) putBack(ctx context.Context) (*junk, error) {
	if _, err := k.look(ctx, k.r.store); err != nil {
		return nil, err
	}
	j := k.currentJunk()
	if j == nil {
		return nil, nil
	}
	value, err := json.Marshal(k.own.Attrs)
	if err != nil {
		return j, err
	}
	grant, err := k.livingGrant(ctx)
	if err != nil {
		return j, err
	}
	_, err = k.r.store.Put(ctx, k.own.Key, value, j.revision, grant)
	if err == nil {
		k.mended(j)
	}
	return j, err
}

// mended forgets j, which is written over. What has been seen since stays.
func (k *keeper) mended(j *junk) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.junk != nil && k.junk.revision == j.revision {
		k.junk = nil
		k.r.setConflict("")
	}
}

// livingGrant returns the grant that our value had, or a fresh one if that has
// ended. A reservation has none and gets none.
func (k *keeper) livingGrant(ctx context.Context) (GrantID, error) {
	grant := k.current()
	if grant == 0 {
		return 0, nil
	}
	_, err := k.r.store.KeepAlive(ctx, grant)
	if !errors.Is(err, ErrNoGrant) {
		return grant, err
	}
	return k.freshGrant(ctx)
}

// freshGrant makes a grant for our value, and has renew keep it alive.
func (k *keeper) freshGrant(ctx context.Context) (GrantID, error) {
	fresh, _, err := k.r.store.Grant(ctx, k.r.o.TTL)
	if err != nil {
		return 0, err
	}
	k.r.mu.Lock()
	k.r.granted = fresh
	k.r.mu.Unlock()
	k.mu.Lock()
	defer k.mu.Unlock()
	k.grant = fresh // renew keeps it alive from now on
	select {
	case k.regrant <- struct{}{}:
	default:
	}
	return fresh, nil
}
