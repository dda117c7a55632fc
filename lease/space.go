// SPDX-License-Identifier: Apache-2.0

package lease

import (
	"context"
	"errors"
	"math"
	"time"
)

// spaceEvery is how often a store that had no space is asked whether it has. Only
// hosts that it has refused ask, so that they may be many.
const spaceEvery = 10 * time.Second

// awaitSpace keeps Status.NoSpace true until ctx ends: nobody else may have
// anything to write for days. It asks by a write that no store can do, of a key at
// a revision that there is not: one without space refuses it, etcd before it
// compares anything, and any other has a conflict.
func (k *keeper) awaitSpace(ctx context.Context) {
	for sleep(ctx, spaceEvery) == nil {
		if k.r.store.status().NoSpace != "" {
			_, _ = k.r.store.Put(ctx, k.own.Key, nil, math.MaxInt64, 0) // what comes of it is noted
		}
	}
}

// renewWaiting renews the grant of l, which waits to be written, when half of its time
// is over. A store without space takes renewals, and may have none for longer than that
// time: a host that has another address meanwhile would lose its subnet. It returns
// an error that matches ErrNoGrant if the grant has ended, and no other.
func (r *Registry) renewWaiting(ctx context.Context, l *Lease) error {
	if l.Grant == 0 || time.Until(l.Expires) > r.o.TTL/2 {
		return nil
	}
	asked := time.Now()
	ttl, err := r.store.KeepAlive(ctx, l.Grant)
	if errors.Is(err, ErrNoGrant) {
		return err
	}
	if err == nil {
		l.Expires = asked.Add(ttl)
		r.setExpires(l.Expires)
	}
	return nil
}
