// SPDX-License-Identifier: Apache-2.0

package lease

import (
	"context"
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
